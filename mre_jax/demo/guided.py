"""What reward guidance does: by its scale, and by what it leads away from."""

from collections.abc import Iterable, Sequence

from mre_jax.demo.scored import scored
from mre_jax.demo.systems import BEST, GUIDED, GUIDED_EDITS, MAIN, Guided
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import compare, summarize
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval
from mre_jax.io.columns import columns
from mre_jax.reward.scores import PERSPECTIVES


def guided_table(rows: Sequence[Result], default_scale: float) -> str:
    """A line for each way to guide: what it gains over its editor's edits without.

    An editor's line without guidance has its mean scores; the others have differences of these
    with a paired interval clustered by picture.

    Args:
        rows: results of the main round.
        default_scale: of the edits that the demo calls guided.
    """
    reward = MAIN[1]
    lines = [("Editor", "Scale", "Away from", *(name.capitalize() for name in PERSPECTIVES))]
    ways = [(Guided(reward, 1.0), reward.name), (Guided(reward, default_scale), GUIDED)]
    ways += [(way, way.edits) for way in GUIDED_EDITS]
    for way, edits in ways:
        lead = (way.system.name, f"{way.scale:g}", "" if way.scale == 1 else way.low_name)
        lines.append((*lead, *_cells(rows, way, edits)))
    return columns(lines, headed=True)


def _cells(rows: Sequence[Result], way: Guided, edits: str) -> Iterable[str]:
    for metric in PERSPECTIVES:
        found = scored(rows, edits, BEST, metric)
        if way.scale == 1:
            summary = summarize(found, Bootstrap())
            yield f"{summary.mean:.2f}{_bounds(summary.interval)}"
        else:
            gain = compare(found, scored(rows, way.system.name, BEST, metric), Bootstrap())
            yield f"{gain.mean:+.2f}{_bounds(gain.interval)}"


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" [{interval.low:.2f}, {interval.high:.2f}]"
