"""Reading a tree of settings: YAML files that may build on one another, then `key=value` arguments.

The schema is a pydantic dataclass whose sections are dataclasses too. A file may name another with
`base:`, relative to itself, and then says only what differs from it.
"""

import dataclasses
import difflib
import functools
import json
import posixpath
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import yaml
from etils import epath
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from mre_jax.errors import ConfigError
from mre_jax.io.field_types import choices, dataclass_of, default_of, field_types

Schema = TypeVar("Schema")
Sources = Sequence[tuple[str, Mapping[str, Any]]]
"""Settings by where they come from; later ones win."""

BASE = "base"


def load(schema: type[Schema], path: epath.PathLike, overrides: Sequence[str] = ()) -> Schema:
    """An instance of `schema` with the values of `path`, its bases and then `overrides`.

    Args:
        path: a YAML file, local or `gs://...`.
        overrides: `data.batch_size=8`; the value is YAML.

    Raises:
        ConfigError: naming file or argument, and key: for a key that the schema lacks, with the
            nearest one that it has; for a value of another type or out of range; for a key without
            value.
    """
    return _build(schema, [*_files(epath.Path(path)), *map(_override, overrides)], str(path))


def from_dict(schema: type[Schema], mapping: Mapping[str, Any], origin: str = "") -> Schema:
    """An instance of `schema` with the values of `mapping`, as `dataclasses.asdict` gives them.

    Raises:
        ConfigError: as `load`; `origin` is what it calls the mapping.
    """
    return _build(schema, [(origin, mapping)], origin)


def keys(schema: Any) -> list[str]:
    """Every key of a schema in order, dotted; sections are no keys of their own."""
    sections = {name: dataclass_of(hint) for name, hint in field_types(schema).items()}
    return [
        key
        for name, inner in sections.items()
        for key in ([f"{name}.{key}" for key in keys(inner)] if inner else [name])
    ]


def describe(schema: Any) -> list[tuple[str, str, str]]:
    """Every key of a schema in order, with its type and its default, both in words."""
    return [(key, _type(_hint(schema, key)), _default(schema, key)) for key in keys(schema)]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """YAML without objects, dates and repeated keys, and in which 1e-4 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        if repeated := [name for number, name in enumerate(names) if name in names[:number]]:
            raise yaml.MarkedYAMLError(
                problem=f"found duplicate key {repeated[0]}", problem_mark=node.start_mark
            )
        return dict(super().construct_mapping(node, deep))


_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if not pair[0].endswith((":timestamp", ":float"))]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.\d*|\.?\d+)([eE][-+]?\d+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def _files(path: epath.Path) -> list[tuple[str, dict[str, Any]]]:
    """The settings of a file and of those it is based on, the base of all first."""
    found: list[tuple[str, dict[str, Any]]] = []
    following: epath.Path | None = path
    while following is not None:
        path = following
        if str(path) in (origin for origin, _ in found):
            raise ConfigError(f"{path}: its {BASE} leads back to itself; name another file")
        settings = _read(path)
        base = settings.pop(BASE, None)
        if not (base is None or isinstance(base, str)):
            raise ConfigError(f"{path}: {BASE}={base!r} must be the path of another file")
        found.append((str(path), settings))
        following = None if base is None else _beside(path, base)
    return found[::-1]


def _beside(path: epath.Path, base: str) -> epath.Path:
    """`base` as seen from the file `path`, without "..": so that one file has one name."""
    place = base if "://" in base else str(path.parent / base)
    scheme, separator, inner = place.rpartition("://")
    return epath.Path(f"{scheme}{separator}{posixpath.normpath(inner)}")


def _read(path: epath.Path) -> dict[str, Any]:
    try:
        return _parsed(path.read_text(), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise ConfigError(
            f"{path} does not exist; name a configuration such as configs/*.yaml"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not text; a configuration is a YAML file") from None


def _override(argument: str) -> tuple[str, dict[str, Any]]:
    key, equals, value = (part.strip() for part in argument.partition("="))
    if not (equals and key):
        raise ConfigError(f"{argument!r} is not a setting; write key=value, as data.batch_size=8")
    nested: Any = _parsed(f"value: {value}", argument).get("value")
    for name in reversed(key.split(".")):
        nested = {name: nested}
    return "command line", nested


def _parsed(text: str, origin: str) -> dict[str, Any]:
    try:
        settings = yaml.load(text, _Loader)  # noqa: S506  a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "not readable"
        raise ConfigError(f"{origin}{place}: {problem}; a configuration is YAML") from None
    if not isinstance(settings, dict):
        raise ConfigError(f"{origin}: want settings, key: value, not {settings!r}")
    return {str(key): value for key, value in settings.items()}


def _build(schema: type[Schema], sources: Sources, path: str) -> Schema:
    """The dataclass, by pydantic; its errors as one line."""
    origins: dict[str, str] = {}
    values: Any = {name: {} for name, hint in field_types(schema).items()
                   if dataclass_of(hint) is hint}  # fmt: skip
    for origin, settings in sources:
        values = _merged(values, settings, origin, "", origins)
    try:
        # JSON, since only there a list may stand for a tuple and a mapping for a section, while a
        # text does not stand for a number.
        return TypeAdapter(schema).validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise ConfigError(_line(schema, error, values, origins, path)) from None


def _merged(was: Any, now: Any, origin: str, key: str, origins: dict[str, str]) -> Any:
    origins[key] = origin
    if not isinstance(now, Mapping):
        return now
    merged = dict(was) if isinstance(was, Mapping) else {}
    for name, value in now.items():
        inner = f"{key}.{name}" if key else str(name)
        merged[name] = _merged(merged.get(name), value, origin, inner, origins)
    return merged


def _line(
    schema: Any, error: ValidationError, values: Any, origins: Mapping[str, str], path: str
) -> str:
    """What is wrong first, in one line."""
    # A key that does not exist explains another that is missing.
    first = min(error.errors(), key=lambda one: one["type"] != _UNKNOWN)
    kind, loc = first["type"], [part for part in first["loc"] if isinstance(part, str)]
    if kind != _UNKNOWN:  # of a list or a mapping by name, the whole
        loc = loc[
            : next((n for n in range(1, len(loc)) if ".".join(loc[:n]) in keys(schema)), None)
        ]
    key, sections = ".".join(loc), loc[:-1]
    if kind == _UNKNOWN:
        origin = origins.get(key, path)
        return f"{origin}: there is no setting {key}{_nearest(schema, sections, key)}"
    if kind == "missing":
        return f"{path} lacks {key}; give it there or as {key}=..."
    if kind == "value_error":
        text = str(first["ctx"]["error"])
        if not sections or text.startswith(f"{'.'.join(sections)}."):
            return text
        # A class that serves elsewhere too knows its own section's name, not those around it.
        outer = ".".join(sections)
        return f"{outer}.{text}" if text.startswith(f"{loc[-1]}.") else f"{key}: {text}"
    value = functools.reduce(lambda outer, name: outer[name], loc, values)
    hint = _hint(schema, key)
    if inner := dataclass_of(hint):
        wanted = f"a section with keys as {', '.join(keys(inner)[:3])}"
    else:
        wanted = _type(hint) if kind in _TYPE_ERRORS else _range(hint)
    return f"{origins.get(key, path)}: {key}={value!r} must be {wanted}"


def _nearest(schema: Any, sections: Sequence[str], key: str) -> str:
    """The end of a message: the key that was probably meant."""
    schema = _inner(schema, sections)
    prefix = "".join(f"{section}." for section in sections)
    here = [f"{prefix}{name}" for name in field_types(schema)]
    known = [prefix + known for known in keys(schema)]
    match = difflib.get_close_matches(key, [*here, *known], n=1, cutoff=0.7)
    if not match and not sections:  # the key of a section, without its section
        names = {known.rpartition(".")[2]: known for known in keys(schema)}
        match = [names[name] for name in difflib.get_close_matches(key, names, n=1, cutoff=0.7)]
    return f"; did you mean {match[0]}?" if match else f"; there are {', '.join(here)}"


def _hint(schema: Any, key: str) -> Any:
    *sections, name = key.split(".")
    return field_types(_inner(schema, sections))[name]


def _inner(schema: Any, sections: Sequence[str]) -> Any:
    """The dataclass of a section within sections."""
    return functools.reduce(
        lambda outer, name: dataclass_of(field_types(outer)[name]), sections, schema
    )


def _default(schema: Any, key: str) -> str:
    """As YAML has it; that of a key in a section that is null by default, once there is one."""
    *sections, name = key.split(".")
    value = default_of(_inner(schema, sections).__dataclass_fields__[name])
    return "required" if value is dataclasses.MISSING else json.dumps(value)


def _type(hint: Any) -> str:
    """A type as a user knows it."""
    return " or ".join(map(_one_type, choices(hint)))


def _one_type(hint: Any) -> str:
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case typing.Annotated:
            return _one_type(arguments[0])
        case typing.Literal:
            return f"one of {', '.join(arguments)}"
        case builtin if builtin is tuple:
            return f"a list of {_PLURALS[_one_type(arguments[0])]}"
        case builtin if builtin is dict:
            return f"{_PLURALS[_one_type(arguments[1])]} by name"
    return _NAMES[hint]


def _range(hint: Any) -> str:
    """The description that stands beside the limits of a field, or of the entries of a list."""
    null = ", or null" if type(None) in choices(hint) else ""
    for choice in choices(hint):
        for inner in (choice, *typing.get_args(choice)):
            for extra in getattr(inner, "__metadata__", ()):
                if isinstance(extra, FieldInfo) and extra.description:
                    return extra.description + null
    return _type(hint)


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}
_UNKNOWN = "unexpected_keyword_argument"
_PLURALS = {"a whole number": "whole numbers", "a number": "numbers", "text": "texts"}
_TYPE_ERRORS = (
    *("bool_type", "dict_type", "float_type", "int_from_float", "int_type"),
    *("literal_error", "string_type", "tuple_type"),
)
