"""HTML and SVG elements as text: whatever is not `Markup` already is escaped.

Characters that nobody sees are shown by their numbers: those that turn the direction of writing can
make a text read as another one.
"""

import html
import re
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


def visible(text: str) -> str:
    """The text with "[U+202E]" instead of marks of direction and other control characters.

    Line breaks and tabs stay, and the joiners that emoji and some scripts are written with. The
    page's script does the same.
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)

_VOID = frozenset(("br", "hr", "img", "input", "meta", "link"))


def _escape(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(visible(child))


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    if isinstance(value, int | float):
        return f' {name}="{number(value)}"'
    # What the script reads back must be what stands in the data.
    text = html.escape(str(value) if name == "value" else visible(str(value)))
    return f' {name}="{text}"'
