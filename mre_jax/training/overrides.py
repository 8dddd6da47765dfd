"""Settings of a tree of frozen dataclasses, from YAML files and from key=value arguments.

The dataclasses are the schema: OmegaConf takes names, types and defaults from them. A file may name
another with `base:`, relative to itself, and then says only what differs from it.
"""

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml
from etils import epath
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mre_jax.errors import ConfigError

Schema = TypeVar("Schema")

BASE = "base"


def load(schema: type[Schema], path: epath.PathLike, overrides: Sequence[str] = ()) -> Schema:
    """An instance of `schema` with the values of `path`, its bases and then `overrides`.

    Args:
        schema: a frozen dataclass; fields are numbers, strings, booleans, tuples of these,
            dataclasses of the same kind, or one of those and None.
        path: a YAML file, local or `gs://...`.
        overrides: `data.batch_size=8`; the value is YAML.

    Raises:
        ConfigError: naming file or argument, and key: for a key that the schema lacks, with the
            nearest one that it has; for a value of another type; for a key without value.
    """
    config = OmegaConf.structured(schema)
    sources = [*_files(epath.Path(path)), *map(_override, overrides)]
    for origin, settings in sources:
        config = _merged(config, schema, settings, origin)
    return _build(schema, _resolved(config, path), "", str(path))


def from_dict(schema: type[Schema], mapping: Mapping[str, Any], origin: str = "") -> Schema:
    """An instance of `schema` with the values of `mapping`, as `to_dict` gives them.

    Raises:
        ConfigError: as `load`; `origin` is what it calls the mapping.
    """
    config = _merged(OmegaConf.structured(schema), schema, mapping, origin)
    return _build(schema, _resolved(config, origin), "", origin)


def to_dict(settings: Any) -> dict[str, Any]:
    """The values of a dataclass, nested, with lists for tuples: for JSON and YAML."""
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}


def keys(schema: type) -> list[str]:
    """Every key of a schema in order, dotted; sections are no keys of their own."""
    found = []
    for name, hint in typing.get_type_hints(schema).items():
        section = _section(hint)
        found += [name] if section is None else [f"{name}.{key}" for key in keys(section)]
    return found


def describe(schema: type) -> list[tuple[str, str, str]]:
    """Every key of a schema in order, with its type and its default, both in words."""
    return [(key, _describe(_hint(schema, key)), _default(schema, key)) for key in keys(schema)]


def _files(path: epath.Path) -> list[tuple[str, dict[str, Any]]]:
    """The settings of a file and of those it is based on, the base of all first."""
    found: list[tuple[str, dict[str, Any]]] = []
    seen: set[str] = set()
    following: epath.Path | None = path
    while following is not None:
        path = following
        if str(path) in seen:
            raise ConfigError(f"{path}: its {BASE} leads back to itself; name another file")
        seen.add(str(path))
        settings = _read(path)
        base = settings.pop(BASE, None)
        if not (base is None or isinstance(base, str)):
            raise ConfigError(f"{path}: {BASE}={base!r} must be the path of another file")
        found.append((str(path), settings))
        following = None if base is None else _beside(path, base)
    return found[::-1]


def _beside(path: epath.Path, base: str) -> epath.Path:
    """`base` as seen from the file `path`, without "..": so that one file has one name."""
    if "://" in base:
        return epath.Path(base)
    folded: list[str] = []
    for part in (path.parent / base).parts:
        if part == ".." and folded and folded[-1] not in ("..", "/"):
            folded.pop()
        else:
            folded.append(part)
    return epath.Path(*folded)


def _read(path: epath.Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(f"{path} is no file; name a configuration such as configs/*.yaml") from (
            None
        )
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is no text; a configuration is a YAML file") from None


def _override(argument: str) -> tuple[str, dict[str, Any]]:
    key, equals, value = argument.partition("=")
    if not (equals and key.strip()):
        raise ConfigError(f"{argument!r} is no setting; write key=value, as data.batch_size=8")
    parsed = _parsed(f"value: {value}", argument).get("value")
    return "command line", _nested(key.strip(), parsed)


def _parsed(text: str, origin: str) -> dict[str, Any]:
    try:
        settings = OmegaConf.to_container(OmegaConf.create(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "not readable"
        raise ConfigError(f"{origin}{place}: {problem}; a configuration is YAML") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{origin}: {_first_line(error)}") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin}: want settings, key: value, not {settings!r}")
    return {str(key): value for key, value in settings.items()}


def _leaves(
    schema: type, settings: Mapping[str, Any], origin: str, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, having checked that the schema has all the keys."""
    hints = typing.get_type_hints(schema)
    for name, value in settings.items():
        key = f"{prefix}{name}"
        if name not in hints:
            raise ConfigError(f"{origin}: there is no setting {key}{_nearest(schema, prefix, key)}")
        section = _section(hints[name])
        if section is None or value is None or value == {}:
            yield key, value
        elif isinstance(value, Mapping):
            yield from _leaves(section, value, origin, f"{key}.")
        else:
            some = ", ".join(keys(section)[:3])
            raise ConfigError(f"{origin}: {key}={value!r} must be a section with keys as {some}")


def _nearest(schema: type, prefix: str, key: str) -> str:
    """The end of a message: the key that was probably meant."""
    last = key.rpartition(".")[2]
    here = [f"{prefix}{name}" for name in typing.get_type_hints(schema)]
    known = [prefix + known for known in keys(schema)]
    match = difflib.get_close_matches(key, [*here, *known], n=1, cutoff=0.7)
    if not match and prefix == "":  # the key of a section, without its section
        names = {known.rpartition(".")[2]: known for known in keys(schema)}
        match = [names[name] for name in difflib.get_close_matches(last, names, n=1, cutoff=0.7)]
    if match:
        return f"; did you mean {match[0]}?"
    return f"; there are {', '.join(here)}"


def _merged(config: Any, schema: type, settings: Mapping[str, Any], origin: str) -> Any:
    leaves = list(_leaves(schema, settings, origin))
    try:
        return OmegaConf.merge(config, settings)
    except OmegaConfBaseException:
        key, value = next(leaf for leaf in leaves if not _fits(config, *leaf))
        wanted = _describe(_hint(schema, key))
        raise ConfigError(f"{origin}: {key}={value!r} must be {wanted}") from None


def _fits(config: Any, key: str, value: Any) -> bool:
    try:
        OmegaConf.merge(config, _nested(key, value))
    except OmegaConfBaseException:
        return False
    return True


def _nested(key: str, value: Any) -> dict[str, Any]:
    *sections, name = key.split(".")
    nested = {name: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def _resolved(config: Any, path: epath.PathLike) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {_first_line(error)}") from None


def _build(schema: type[Schema], values: Any, prefix: str, origin: str) -> Schema:
    """The dataclass; a section of which nothing was given is "???" where it has no default."""
    arguments: dict[str, Any] = {}
    for name, hint in typing.get_type_hints(schema).items():
        section = _section(hint)
        value = "???" if values == "???" else values[name]
        if section is not None and value is not None:
            arguments[name] = _build(section, value, f"{prefix}{name}.", origin)
        elif value != "???":
            arguments[name] = tuple(value) if isinstance(value, list | tuple) else value
        elif not _has_default(schema, name):
            raise ConfigError(
                f"{origin} lacks {prefix}{name}; give it there or as {prefix}{name}=..."
            )
    try:
        return schema(**arguments)
    except ConfigError as error:
        # A class that serves elsewhere too knows its own section's name, not those around it.
        parents = prefix[:-1].rpartition(".")[0]
        known = not parents or str(error).startswith(f"{parents}.")
        raise ConfigError(str(error) if known else f"{parents}.{error}") from None


def _has_default(schema: Any, name: str) -> bool:
    field = schema.__dataclass_fields__[name]
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def _default(schema: Any, key: str) -> str:
    """As YAML has it; that of a key in a section that is null by default, once there is one."""
    *sections, name = key.split(".")
    for section in sections:
        schema = _section(typing.get_type_hints(schema)[section])
    field = schema.__dataclass_fields__[name]
    if field.default is dataclasses.MISSING:
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return json.dumps(value)


def _section(hint: Any) -> type | None:
    """The dataclass of a field whose type is one, or one and None."""
    for choice in _choices(hint):
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return choice
    return None


def _hint(schema: type, key: str) -> Any:
    *sections, name = key.split(".")
    for section in sections:
        schema = _section(typing.get_type_hints(schema)[section]) or schema
    return typing.get_type_hints(schema)[name]


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _describe(hint: Any) -> str:
    """The type as a user knows it."""
    return " or ".join(_describe_one(choice) for choice in _choices(hint))


def _describe_one(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {_PLURALS[typing.get_args(hint)[0]]}"
    if dataclasses.is_dataclass(hint):
        return "a section"
    return _NAMES[hint]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
