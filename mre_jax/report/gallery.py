"""Edits side by side under their instructions, with a chart beside them: how a page may open."""

import dataclasses
from collections.abc import Mapping, Sequence

from etils import epath

from mre_jax.errors import DataError
from mre_jax.report.charts import heat_class
from mre_jax.report.html import Markup, data_uri, render
from mre_jax.reward.scores import MAX_SCORE

_LIMITS = (0.0, MAX_SCORE / 2, float(MAX_SCORE))


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """One picture of a line.

    Attributes:
        label: what it is.
        picture: its file, a PNG.
        scores: its scores, 0 to 5, by name; none for an original.
    """

    label: str
    picture: epath.PathLike
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The picture itself as an address; "" if it cannot be read."""
        try:
            return data_uri(epath.Path(self.picture).read_bytes(), "image/png")
        except OSError:
            return ""

    @property
    def chips(self) -> list[tuple[str, float, str]]:
        """Name, value and class of colour of each score."""
        return [(name, value, heat_class(value, _LIMITS)) for name, value in self.scores.items()]


@dataclasses.dataclass(frozen=True)
class Line:
    """What became of one picture under one instruction.

    Attributes:
        kind: type of the instruction.
        instruction: what was to be done.
        exhibits: the original and its edits.
    """

    kind: str
    instruction: str
    exhibits: Sequence[Exhibit]


def gallery(
    lines: Sequence[Line], chart: Markup, caption: str, *, note: str = "", facts: str = ""
) -> Markup:
    """Lines of pictures, with a chart beside them or, on a narrow page, below.

    Args:
        lines: at least one.
        chart: of `mre_jax.report.charts`.
        caption: of the chart.
        note: a paragraph below it.
        facts: text in columns below that.

    Raises:
        DataError: if there is no line.
    """
    if not lines:
        raise DataError("no edits to open the page with")
    beside = {"chart": chart, "caption": caption, "note": note, "facts": facts}
    return render("gallery.html", lines=lines, **beside)
