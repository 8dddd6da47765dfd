"""People against a judge: the paper's Fig. 13, per edit and per system."""

import collections
from collections.abc import Sequence
from typing import Any

from mre_jax.evaluation.provenance import comparable
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.agreement import (
    correlate,
    correlate_systems,
    largest_differences,
    pair_edits,
    reliability_in,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.report.charts import scatter_chart
from mre_jax.report.html import Markup, render
from mre_jax.report.scores import Scores, Variant

_STEP = 4  # discs of the scatter stand at quarters of a score
_LISTED = 5  # edits that both see most differently


def people_against_judge(
    people: Scores, judge: Scores, bootstrap: Bootstrap | None = None
) -> list[Markup]:
    """How both agree in every perspective; none if they have scored no edits in common."""
    found = [
        one
        for metric in people.perspectives
        if (one := _perspective(metric, _rows(people, metric), _rows(judge, metric), bootstrap))
    ]
    among = reliability_in(people.rows, bootstrap)
    return [render("people.html", perspectives=found, among=among)] if found else []


def _perspective(
    metric: str, people: Sequence[Result], judge: Sequence[Result], bootstrap: Bootstrap | None
) -> dict[str, Any]:
    """What the template shows of one perspective; empty for fewer than two edits."""
    pairs = pair_edits(people, judge)
    if len(pairs) < 2:
        return {}
    systems = [
        (Variant(one.system, one.condition), one)
        for one in correlate_systems(people, judge, bootstrap)
    ]
    counts = collections.Counter(
        (round(_STEP * a.value) / _STEP, round(_STEP * b.value) / _STEP)
        for a, b in pairs
        if a.value is not None and b.value is not None
    )
    chart = scatter_chart(
        counts,
        [(variant.label, one.first, one.second) for variant, one in systems],
        title=f"{metric}: the judge's score against people's",
        x_label="people",
        y_label="judge",
    )
    whole = correlate(people, judge, bootstrap)
    apart = [
        (Variant(a.system, a.condition), a, b)
        for a, b in largest_differences(people, judge, _LISTED)
    ]
    return {"metric": metric, "all": whole, "systems": systems, "chart": chart, "apart": apart}


def _rows(scores: Scores, metric: str) -> list[Result]:
    return [row for row in scores.rows if row.metric == metric]


def pairs_of_judges(suites: Sequence[Scores]) -> list[tuple[Scores, Scores]]:
    """People and judge of the same suite, where either has scored in one way."""
    return [
        (people, judge)
        for people in suites
        for judge in suites
        if people.people and not judge.people and people.suite == judge.suite
        if comparable(people.rows) and comparable(judge.rows)
    ]
