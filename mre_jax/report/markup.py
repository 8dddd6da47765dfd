"""HTML and SVG elements as text: whatever is not `Markup` already is escaped."""

import html
from typing import Any


class Markup(str):
    """Text that is HTML already. Whoever makes one vouches that no data in it is unescaped."""

    __slots__ = ()


Child = str | None


def tag(_name: str, *children: Child, **attributes: Any) -> Markup:
    """An element with its children, in order; None is left out.

    Args:
        children: texts, which are escaped, or `Markup`, which is not.
        attributes: `class_` is "class", other underscores are hyphens. True gives an attribute
            without a value, None and False give none; numbers are shortened to 2 decimals.
    """
    opening = f"<{_name}{''.join(_attribute(*pair) for pair in attributes.items())}>"
    if _name in _VOID:
        return Markup(opening)
    return Markup(f"{opening}{join(children)}</{_name}>")


def join(children: Any) -> Markup:
    """The children one after the other; see `tag`."""
    return Markup("".join(_escape(child) for child in children if child is not None))


def number(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


_VOID = frozenset(("br", "hr", "img", "input", "meta", "link"))


def _escape(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child)


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = number(value) if isinstance(value, int | float) else html.escape(str(value))
    return f' {name}="{text}"'
