"""What the types of a dataclass's fields say, for whoever makes options or settings of them."""

import dataclasses
import functools
import types
import typing
from typing import Any


def field_types(cls: Any) -> dict[str, Any]:
    """The types of a class's fields by name, references resolved and annotations kept."""
    return typing.get_type_hints(cls, include_extras=True)


def choices(hint: Any) -> tuple[Any, ...]:
    """The types of a union; any other type by itself.

    Example:
        >>> choices(int | None), choices(tuple[int, str])
        ((<class 'int'>, <class 'NoneType'>), (tuple[int, str],))
    """
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else (hint,)


def without_none(hint: Any) -> Any:
    """The type of a field that may be None, when it is not.

    Example:
        >>> without_none(int | None), without_none(int | str | None)
        (<class 'int'>, int | str)
    """
    return functools.reduce(
        lambda a, b: a | b, [choice for choice in choices(hint) if choice is not type(None)]
    )


def dataclass_of(hint: Any) -> Any:
    """The dataclass of a field whose type is one, or one or None; None for other types."""
    return next((choice for choice in choices(hint) if dataclasses.is_dataclass(choice)), None)


def default_of(field: "dataclasses.Field[Any]") -> Any:
    """A field's default value, made if need be; `dataclasses.MISSING` without one."""
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()
