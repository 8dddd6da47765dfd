"""Between our frozen configurations and the config.json files of diffusers and transformers."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin

from mre_jax.errors import ConfigError
from mre_jax.io.field_types import choices

Config = TypeVar("Config")


def read_config(
    cls: type[Config],
    mapping: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    supported: Mapping[str, Any],
) -> Config:
    """The dataclass `cls` with the fields that `mapping` names; its other keys are ignored.

    Args:
        mapping: a config.json; a null means the key is absent.
        defaults: the value of an absent key where it differs from the default of `cls`.
        supported: keys that would change the network, with the one value that is built here.

    Raises:
        ConfigError: for another value of a key in `supported`, a value that is not of its
            field's type, and whatever `cls` refuses.
    """
    values = {key: _frozen(value) for key, value in mapping.items() if value is not None}
    for key, value in supported.items():
        if values.get(key, value) != value:
            raise ConfigError(f"{key} {values[key]!r} is not supported; it must be {value!r}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {key: value for key, value in values.items() if key in fields}
    for key, value in given.items():
        _check_type(key, value, fields[key].type)
    return cls(**{**defaults, **given})


def write_config(config: Any) -> dict[str, Any]:
    """The fields of a dataclass under their own names, with lists for tuples as in JSON."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def check_divides(key: str, divisor: int, of: str, width: int) -> None:
    """Raises ConfigError naming both keys unless `divisor` divides `width`."""
    if divisor < 1 or width % divisor:
        raise ConfigError(f"{key} {divisor} does not divide {of} {width}")


def check_model_type(mapping: Mapping[str, Any], expected: str) -> None:
    """Raises ConfigError if a config.json says that it is of another network than `expected`."""
    model_type = mapping.get("model_type") or expected
    if model_type != expected:
        raise ConfigError(f"model_type {model_type!r} is not supported; it must be {expected!r}")


def _check_type(key: str, value: Any, expected: Any) -> None:
    kinds = choices(expected)
    if not any(_fits(value, kind) for kind in kinds):
        given = list(value) if isinstance(value, tuple) else value
        names = ("list" if get_origin(kind) is tuple else kind.__name__ for kind in kinds)
        raise ConfigError(
            f"{key} {given!r} is not supported; it must be of type {' or '.join(names)}"
        )


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        entry = get_args(kind)[0]
        return isinstance(value, tuple) and all(_fits(part, entry) for part in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
