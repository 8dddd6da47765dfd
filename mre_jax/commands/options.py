"""Options of a command from a spec: a frozen dataclass whose fields, defaults and docstring say it.

A field `batch_size: int = 4` becomes `--batch-size`, with the field's line under "Attributes" as
its help. Of the type it takes what the option accepts:

    str, int, float, Path         one value
    bool                          --name; --no-name too if the default is True or None
    Literal["a", "b"]             one of these
    tuple[float, ...]             5,4.5,0
    tuple[str, ...]               --name VALUE, which may be repeated
    dict[str, str]                --name KEY=VALUE, which may be repeated
    another spec, or None         its options, as a group
    tuple[float, ...] | None      as above; if the default is one, "none" too

A field's `metadata` may say what the type does not: "flag" (another name), "positional" (True),
"metavar", "choices", "nargs" and "const" (of argparse), "title" (of a group), "group" (the title of
one that begins here), "no" (of a bool), "help" (in place of the docstring's line), and "parse" (a
function of the text).
"""

import argparse
import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mre_jax.errors import ConfigError
from mre_jax.io.field_types import dataclass_of, default_of, field_types, without_none

Spec = TypeVar("Spec")
_NONE = "none"
Parser = argparse.ArgumentParser | argparse._ArgumentGroup


def add_options(parser: argparse.ArgumentParser, spec: type, **defaults: Any) -> None:
    """Adds the options of a spec.

    Args:
        defaults: in place of the spec's own, by field.
    """
    _add(parser, parser, spec, "", True, defaults)


def read_options(spec: type[Spec], args: argparse.Namespace) -> Spec:
    """The spec that the parsed options make.

    Raises:
        ConfigError: naming the option whose value does not fit.
    """
    return _read(spec, args, "")


def write_options(spec: Any) -> list[str]:
    """The arguments that `read_options` makes into an equal spec: what differs from the defaults.

    Paths have to be texts where the field takes texts too, and what a field's "parse" reads has to
    be of numbers or names, as rewards are.
    """
    positional, options = _written(spec)
    return [*positional, *options]


def parse_numbers(text: str, name: str) -> tuple[float, ...]:
    """Reads "5,5,5".

    Raises:
        ConfigError: if a part is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{name} {text!r}: want numbers with commas between, as 5,5,5") from None


def field_docs(spec: type) -> dict[str, str]:
    """What the docstrings of a class and its bases say of each field under "Attributes"."""
    docs: dict[str, str] = {}
    for base in reversed(spec.__mro__):
        section = (inspect.cleandoc(base.__doc__ or "") + "\n").partition("Attributes:\n")[2]
        section = re.split(r"\n(?=\S)", section)[0]
        for entry in re.split(r"\n(?=    \S)", f"\n{section}"):
            names, colon, text = entry.strip().partition(":")
            if colon:
                docs |= {name.strip(): " ".join(text.split()) for name in names.split(",")}
    return docs


def _add(
    parser: argparse.ArgumentParser,
    place: Parser,
    spec: type,
    prefix: str,
    required: bool,
    defaults: Mapping[str, Any],
) -> None:
    for field in _fields(spec):
        nested = dataclass_of(field.type)
        if nested is not None:
            title = field.metadata.get("title", field.name.replace("_", " "))
            group = parser.add_argument_group(title)
            needed = required and nested is field.type
            _add(parser, group, nested, f"{prefix}{field.name}.", needed, {})
        else:
            if title := field.metadata.get("group"):
                place = parser.add_argument_group(title)
            default = defaults.get(field.name, field.default)
            _add_one(place, field, f"{prefix}{field.name}", required, default)


def _add_one(place: Parser, field: "_Field", dest: str, required: bool, default: Any) -> None:
    options: dict[str, Any] = {"default": default}
    text = field.help.replace("%", "%%").removesuffix(".")
    if default is dataclasses.MISSING:
        options["default"] = None
        needed = required and not field.positional
    else:
        needed = False
        text += _as_help(default)
    options |= _kind(field, default)
    options["help"] = text
    for name in ("metavar", "choices", "nargs", "const"):
        if name in field.metadata:
            options[name] = field.metadata[name]
    takes_value = "choices" not in options and options.get("action") in (None, "append")
    if "." in dest and takes_value and options.get("metavar") is None:
        options["metavar"] = field.name.upper()
    if field.positional:
        options.setdefault("metavar", field.name)
        if default is not dataclasses.MISSING:
            options.setdefault("nargs", "?")
        place.add_argument(dest, **options)
    else:
        place.add_argument(*field.flags, dest=dest, required=needed, **options)


def _kind(field: "_Field", default: Any) -> dict[str, Any]:
    """How argparse takes a field of its type."""
    hint = without_none(field.type)
    if hint is bool:
        has_no = default is not False or field.metadata.get("no")
        return {"action": argparse.BooleanOptionalAction if has_no else "store_true"}
    if typing.get_origin(hint) is typing.Literal:
        return {"choices": typing.get_args(hint)}
    if field.repeated and field.positional:
        return {"nargs": "+"}
    if field.repeated:
        metavar = "NAME=VALUE" if typing.get_origin(hint) is dict else None
        number = {"type": int} if int in typing.get_args(hint) else {}
        return {"action": "append", "default": [], "metavar": metavar} | number
    return {"type": hint} if hint in (int, float) and "parse" not in field.metadata else {}


def _read(spec: type, args: argparse.Namespace, prefix: str) -> Any:
    values: dict[str, Any] = {}
    for field in _fields(spec):
        nested = dataclass_of(field.type)
        if nested is None:
            value = getattr(args, f"{prefix}{field.name}")
            values[field.name] = _value(field, value)
        elif nested is field.type or _is_given(nested, args, f"{prefix}{field.name}."):
            values[field.name] = _read(nested, args, f"{prefix}{field.name}.")
    for field in _fields(spec):
        if field.default is dataclasses.MISSING and values.get(field.name) is None:
            raise ConfigError(f"{field.flags[0]} is missing")
    return spec(**values)


def _written(spec: Any) -> tuple[list[str], list[str]]:
    positional: list[str] = []
    options: list[str] = []
    for field in _fields(type(spec)):
        value = getattr(spec, field.name)
        if dataclass_of(field.type) is not None:
            if value is not None:
                before, after = _written(value)
                positional, options = [*positional, *before], [*options, *after]
        elif field.positional:
            several = field.repeated or "nargs" in field.metadata
            positional += map(_as_text, value) if several else [_as_text(value)]
        elif value != field.default:
            options += _with_flag(field, value)
    return positional, options


def _with_flag(field: "_Field", value: Any) -> list[str]:
    flag = field.flags[-1]
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag.removeprefix('--')}"]
    if field.repeated:
        pairs = value.items() if isinstance(value, Mapping) else None
        texts = [f"{k}={v}" for k, v in pairs] if pairs else map(_as_text, value)
        return [part for text in texts for part in (flag, text)]
    if "nargs" in field.metadata:
        return [flag, *map(_as_text, value)]
    text = _NONE if value is None else _as_text(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _as_text(value: Any) -> str:
    """Numbers as short as they can be; of a tuple its parts, those of tuples in it with slashes."""
    if isinstance(value, tuple):
        return ",".join(
            "/".join(map(_as_text, part)) if isinstance(part, tuple) else _as_text(part)
            for part in value
        )
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _value(field: "_Field", value: Any) -> Any:
    if field.takes_none and value == _NONE:
        return None
    if "parse" in field.metadata and isinstance(value, str):
        return field.metadata["parse"](value)
    hint = without_none(field.type)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[0] is float and isinstance(value, str):
        return parse_numbers(value, field.flags[0])
    if origin is tuple and isinstance(value, list):
        return tuple(value)
    if origin is dict and isinstance(value, list):
        return dict(_pair(text, field.flags[0]) for text in value)
    return Path(value) if hint is Path and value is not None else value


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise ConfigError(f"{flag} {text!r}: want NAME=VALUE")
    return name, value


def _is_given(spec: type, args: argparse.Namespace, prefix: str) -> bool:
    """Whether any option of a spec that may be left out has another value than its default."""
    for field in _fields(spec):
        if dataclass_of(field.type) is not None:
            continue
        value = getattr(args, f"{prefix}{field.name}")
        missing = field.default is dataclasses.MISSING
        default = [] if field.repeated else None if missing else field.default
        if value != default:
            return True
    return False


@dataclasses.dataclass(frozen=True)
class _Field:
    """A field of a spec, its type resolved.

    Attributes:
        default: a value; `dataclasses.MISSING` if there is none.
    """

    name: str
    type: Any
    default: Any
    help: str
    metadata: Mapping[str, Any]

    @property
    def positional(self) -> bool:
        return bool(self.metadata.get("positional"))

    @property
    def repeated(self) -> bool:
        """Whether the option may be given more than once."""
        hint = without_none(self.type)
        arguments = typing.get_args(hint)
        origin = typing.get_origin(hint)
        return not {"parse", "nargs"} & self.metadata.keys() and (
            origin is dict or (origin is tuple and arguments[0] is not float)
        )

    @property
    def takes_none(self) -> bool:
        """Whether leaving it out is not None, which therefore has a word."""
        numbers = without_none(self.type)
        is_numbers = typing.get_origin(numbers) is tuple and typing.get_args(numbers)[0] is float
        return is_numbers and numbers is not self.type and self.default is not None

    @property
    def flags(self) -> tuple[str, ...]:
        """As the user writes it; the first one is that of messages."""
        if self.positional:
            return (self.metadata.get("metavar", self.name),)
        flag = self.metadata.get("flag", f"--{self.name.replace('_', '-')}")
        return (flag,) if isinstance(flag, str) else tuple(flag)


def _fields(spec: Any) -> Iterator[_Field]:
    docs, hints = field_docs(spec), field_types(spec)
    for field in dataclasses.fields(spec):
        if not field.init or field.metadata.get("option") is False:
            continue
        text = field.metadata.get("help", docs.get(field.name, ""))
        yield _Field(field.name, hints[field.name], default_of(field), text, field.metadata)


def _as_help(default: Any) -> str:
    """What a default looks like at the end of a help text; nothing where it says nothing."""
    if default is None or isinstance(default, bool) or default in ("", (), {}):
        return ""
    if isinstance(default, tuple):
        default = ",".join(
            f"{part:g}" if isinstance(part, float) else str(part) for part in default
        )
    return f" ({str(default).replace('%', '%%')})"
