"""One of several, the same on every machine."""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

Option = TypeVar("Option")


def choose(options: Sequence[Option], seed: int, name: str, what: str) -> Option:
    """A function of seed, example and what is chosen alone."""
    digest = hashlib.sha256(f"{seed}/{name}/{what}".encode()).digest()
    return options[int.from_bytes(digest[:8], "big") % len(options)]


def choose_text(value: object, seed: int, name: str) -> tuple[Any, tuple[Any, ...]]:
    """One of a list of instructions, and all of several; anything else as it is, and none."""
    if isinstance(value, list) and value:
        return choose(value, seed, name, "edit"), tuple(value) if len(value) > 1 else ()
    return value, ()
