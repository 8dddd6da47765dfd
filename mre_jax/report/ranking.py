"""What a reader asks first: which system is best, and how sure that is."""

from mre_jax.evaluation.statistics.intervals import few_groups_note
from mre_jax.evaluation.statistics.ranking import Ranked
from mre_jax.report.cells import NOTHING, head, line, mean_cell, table, variant_name
from mre_jax.report.charts import Series, dot_chart
from mre_jax.report.markup import Markup, tag
from mre_jax.report.scores import Scores, Variant


def ranking(scores: Scores) -> list[Markup]:
    """The systems by the mean of the perspectives, as a chart and a table; none without scores."""
    found = scores.ranking()
    if not found:
        return []
    lines = [_line(scores, one) for one in found]
    caption = (
        "By the mean of the perspectives, from 0 to 5. In brackets: the ranks that a system has in "
        "95 % of the draws of photos; 95 % intervals of the means."
    )
    heads = [head("System", "Mean", *scores.perspectives, first="Rank")]
    numbers = table(caption, heads, lines, class_="ranking")
    parts = [tag("div", _chart(scores, found), numbers, class_="first-look")]
    note = few_groups_note([scores.groups])
    return parts + ([tag("p", note, class_="note")] if note else [])


def _line(scores: Scores, one: Ranked) -> Markup:
    variant = Variant(one.system, one.condition)
    low, high = one.ranks
    between = tag("small", f"[{low}, {high}]")
    cells = [tag("td", variant_name(variant), class_="name"), mean_cell(one.summary, brief=True)]
    cells += [_mean(scores, variant, metric) for metric in scores.perspectives]
    rank = f"{one.rank}" if one.summary.mean is not None else NOTHING
    return line(tag("span", rank, " ", between), cells)


def _mean(scores: Scores, variant: Variant, metric: str) -> Markup:
    found = scores.summary(variant, metric)
    return tag("td", NOTHING if found is None or found.mean is None else f"{found.mean:.2f}")


def _chart(scores: Scores, found: list[Ranked]) -> Markup:
    """A line a system: its mean in each perspective, and that of all with its interval."""
    labels: list[str] = []
    points = []
    parts: dict[str, list[tuple[int, float]]] = {metric: [] for metric in scores.perspectives}
    for one in found:
        mean, bounds = one.summary.mean, one.summary.interval
        if mean is None:
            continue
        variant, place = Variant(one.system, one.condition), len(labels)
        labels.append(variant.label)
        points.append((place, mean, *((bounds.low, bounds.high) if bounds else (mean, mean))))
        for metric, of in parts.items():
            summary = scores.summary(variant, metric)
            if summary is not None and summary.mean is not None:
                of.append((place, summary.mean))
    if not points:
        return Markup("")
    whole = Series("mean of all, 95 % interval", *zip(*points, strict=True))
    series = [Series(metric, *zip(*of, strict=True)) for metric, of in parts.items() if of]
    title = f"{scores.name}: the systems by their mean scores"
    return tag("figure", dot_chart(labels, whole, series, title=title), class_="chart-figure")
