"""Errors as values: a stream goes on behind what is bad in it."""

from collections.abc import Callable, Iterator
from typing import TypeVar

from mre_jax.errors import DataError

Item = TypeVar("Item")


def attempt(make: Callable[..., Item], *args: object) -> Item | DataError:
    """What `make` gives for the arguments, or the `DataError` that it raises."""
    try:
        return make(*args)
    except DataError as error:
        return error


def strict(items: Iterator[Item | DataError]) -> Iterator[Item]:
    """Passes items on.

    Raises:
        DataError: the first error among them.
    """
    for item in items:
        if isinstance(item, DataError):
            raise item
        yield item
