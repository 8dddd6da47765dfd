"""HTML from the templates of this folder: whatever is not `Markup` already is escaped.

Characters that nobody sees are shown by their numbers: those that turn the direction of writing can
make a text read as another one. Line breaks and indentation of a template are for its reader; they
do not come into the page.
"""

import base64
import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Any

from mre_jax.evaluation.statistics.intervals import Interval
from mre_jax.io.extra import of_extra

if TYPE_CHECKING:
    import jinja2

NOTHING = "\u2013"
MINUS = "\u2212"


class Markup(str):
    """Text that is HTML already. Whoever makes one vouches that no data in it is unescaped."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


def render(template: str, **values: Any) -> Markup:
    """What a template makes of values; a value that is missing is an error.

    Raises:
        ConfigError: if the extra `report` is missing.
    """
    return Markup(_environment().get_template(template).render(values))


def visible(text: str) -> str:
    """The text with "[U+202E]" instead of marks of direction and other control characters.

    Line breaks and tabs stay, and the joiners that emoji and some scripts are written with. The
    page's script does the same.

    Example:
        >>> visible("\\u202elive")
        '[U+202E]live'
    """
    return _UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)


_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def interval(found: Interval, digits: int = 2, *, plus: bool = False) -> str:
    """As "[4.02, 4.21]"."""
    sign = "+" if plus else ""
    return f"[{found.low:{sign}.{digits}f}, {found.high:{sign}.{digits}f}]".replace("-", MINUS)


def signed(value: float, digits: int = 2) -> str:
    """As "+0.31", or "-0.31" with a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def fixed(value: float | None, digits: int = 2) -> str:
    """As "4.12"; a dash for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def p_value(p: float) -> str:
    """As "= 0.03" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.2g}"


def resource(name: str) -> Markup:
    """A file beside the templates, as it is."""
    file = resources.files("mre_jax.report") / "templates" / name
    return Markup(file.read_text(encoding="utf-8"))


def data_uri(data: bytes, kind: str) -> str:
    """An address that holds what it points at."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _finalized(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


@functools.cache
def _environment() -> "jinja2.Environment":
    jinja2 = of_extra("jinja2", "report")
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_finalized,
        loader=jinja2.FunctionLoader(lambda name: re.sub(r"\n\s*", "", resource(name))),
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        # What the script reads back must be what stands in the data.
        "as_it_is": of_extra("markupsafe", "report").escape,
        **{each.__name__: each for each in (data_uri, fixed, interval, p_value, signed)},
    }
    environment.globals |= {"NOTHING": NOTHING, "MINUS": MINUS}
    return environment
