"""Packages of the extras, which most of this package does without."""

import importlib
from types import ModuleType

from mre_jax.errors import ConfigError


def of_extra(name: str, extra: str = "data") -> ModuleType:
    """The module of that name, imported where it is used.

    Raises:
        ConfigError: if it is missing or does not load, naming the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{error}; pip install 'mre_jax[{extra}]'") from None
