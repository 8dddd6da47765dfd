"""What a reader asks first: which system is best, and how sure that is."""

from mre_jax.evaluation.statistics.intervals import few_groups_note
from mre_jax.evaluation.statistics.ranking import Ranked
from mre_jax.report.charts import Series, dot_chart
from mre_jax.report.html import Markup, render
from mre_jax.report.scores import Scores, Variant


def ranking(scores: Scores) -> list[Markup]:
    """The systems by the mean of the perspectives, as a chart and a table; none without scores."""
    found = scores.ranking()
    if not found:
        return []
    return [
        render(
            "ranking.html",
            scores=scores,
            chart=_chart(scores, found),
            found=[(Variant(one.system, one.condition), one) for one in found],
            note=few_groups_note([scores.groups]),
        )
    ]


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
    return dot_chart(labels, whole, series, title=title)
