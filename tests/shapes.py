"""Checks the shapes and dtypes of arrays where a signature states them, and nothing else.

Beartype checks whole signatures, so that what a user gives wrongly fails before the function that
refuses it by name. `check_arrays` shows it only what is said of arrays; and where a docstring says
what its function raises, tests give that function wrong arrays, and its result alone is checked.
"""

import functools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import beartype
from jaxtyping import AbstractArray


def check_arrays(stub: Callable[..., Any]) -> Callable[..., Any]:
    """The checks of those arguments and results of a function that hold arrays.

    Args:
        stub: jaxtyping's stand-in for the function, with its names and annotations.
    """
    hints = {name: hint for name, hint in stub.__annotations__.items() if _holds_arrays(hint)}
    if not hints:
        return stub
    everything = _checked(stub, hints)
    result = _checked(stub, {name: hint for name, hint in hints.items() if name == "return"})

    @functools.wraps(stub)
    def check(*args: Any, **kwargs: Any) -> Any:
        return (result if _checks_itself(stub) else everything)(*args, **kwargs)

    return check


def _checked(stub: Callable[..., Any], hints: Mapping[str, Any]) -> Callable[..., Any]:
    copy = types.FunctionType(
        stub.__code__, stub.__globals__, stub.__name__, stub.__defaults__, stub.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = stub.__kwdefaults__, dict(hints)
    copy.__qualname__, copy.__module__ = stub.__qualname__, stub.__module__
    return beartype.beartype(copy)


def _checks_itself(stub: Callable[..., Any]) -> bool:
    """Whether the docstring of the function or of its class says what it raises."""
    owner: Any = sys.modules.get(stub.__module__)
    for name in stub.__qualname__.split("."):
        owner = getattr(owner, name, None)
        if "Raises:" in (getattr(owner, "__doc__", None) or ""):
            return True
    return False


def _holds_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_holds_arrays, typing.get_args(hint)))
