"""Checks the shapes and dtypes of arrays where a signature states them, and nothing else.

Beartype checks whole signatures, so that what a user gives wrongly fails before the function that
refuses it by name. `check_arrays` shows it only what is said of arrays.
"""

import types
import typing
from collections.abc import Callable
from typing import Any

import beartype
from jaxtyping import AbstractArray


def check_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """Beartype's decorator for those arguments and results of `function` that hold arrays."""
    hints = {name: hint for name, hint in function.__annotations__.items() if _holds_arrays(hint)}
    if not hints:
        return function
    checked = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    checked.__kwdefaults__ = function.__kwdefaults__
    checked.__qualname__, checked.__module__ = function.__qualname__, function.__module__
    checked.__annotations__ = hints
    return beartype.beartype(checked)


def _holds_arrays(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_holds_arrays, typing.get_args(hint)))
