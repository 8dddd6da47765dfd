"""The packages of the extra `data`, which a part of this package does without."""

import importlib
from types import ModuleType

from mre_jax.errors import ConfigError

MODULES = ("google_crc32c", "grain")
"""Those that reading a prepared set takes."""


def require_data_extra() -> None:
    """Imports all `MODULES`, before anything that takes long.

    Raises:
        ConfigError: naming the one that is missing, and the extra.
    """
    for name in MODULES:
        of_data_extra(name)


def of_data_extra(name: str) -> ModuleType:
    """The module of that name.

    Raises:
        ConfigError: if it is missing or does not load, naming the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{error}; pip install 'mre_jax[data]'") from None
