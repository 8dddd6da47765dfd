"""People against a judge, and among each other.

What the paper's Fig. 13 shows by examples is listed for every system, and edit by edit.
"""

import collections
from collections.abc import Sequence

import numpy as np

from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.statistics.agreement import (
    Correlation,
    SystemAgreement,
    correlate,
    correlate_systems,
    pair_edits,
    reliability_in,
)
from mre_jax.evaluation.statistics.coefficients import Coefficient, spearman
from mre_jax.evaluation.statistics.intervals import Bootstrap, few_groups_note
from mre_jax.evaluation.tables.layout import Column, Layout
from mre_jax.evaluation.tables.table import Cell, Table, TableRow
from mre_jax.reward.scores import PERSPECTIVES

FIGURE = 13
_COLUMNS = ("People", "Judge", "Spearman")


def people_table(
    rows: Sequence[Result], suite: str = "real-edit", intervals: Bootstrap | None = None
) -> Table | None:
    """Mean scores of both, and how they correlate over the edits of each system and over all.

    Args:
        rows: results of people and of a judge; those of other suites are passed over.
        intervals: settings of the correlations' intervals; None leaves them out.

    Returns:
        None if people and judge have scored no edit in common.

    Raises:
        DataError: if either side mixes judges.
    """
    sides = _sides(rows, suite)
    metrics = [metric for metric, both in sides.items() if len(pair_edits(*both)) > 1]
    if not metrics:
        return None
    found = {
        metric: {(one.system, one.condition): one for one in correlate_systems(*sides[metric])}
        for metric in metrics
    }
    lines = [
        _line(name, [of.get(name) for of in found.values()], intervals)
        for name in dict.fromkeys(name for of in found.values() for name in of)
    ]
    whole = [correlate(*sides[metric]) for metric in metrics]
    cells = [cell for one in whole for cell in (Cell(), Cell(), _rank(one, intervals))]
    lines.append(TableRow("All edits", ("All edits",), tuple(cells), f"{whole[0].items}"))
    columns = tuple(
        Column(metric.capitalize(), name, metric) for metric in metrics for name in _COLUMNS
    )
    notes = [_measured_by(sides, metrics), *_order_note(found, metrics)]
    notes += agreement_notes([row for metric in metrics for row in sides[metric][0]], intervals)
    if intervals is not None:
        notes.append(f"In square brackets: {intervals.confidence:.0%} intervals over groups.")
        notes += [note for note in [few_groups_note([one.groups for one in whole])] if note]
    plan = Layout(FIGURE, "People against the judge", ("Method",), columns, suite, kind="Figure")
    return Table(plan, tuple(lines), tuple(notes), ())


def items_table(rows: Sequence[Result], suite: str = "real-edit") -> Table | None:
    """Both scores of every edit, those first of which people and judge think most differently.

    Args:
        rows: results of people and of a judge; those of other suites are passed over.

    Returns:
        None if people and judge have scored no edit in common.

    Raises:
        DataError: if either side mixes judges.
    """
    sides = _sides(rows, suite)
    pairs = {metric: pair_edits(*both) for metric, both in sides.items()}
    metrics = [metric for metric, found in pairs.items() if found]
    if not metrics:
        return None
    edits: dict[tuple[str, ...], dict[str, tuple[float, float]]] = collections.defaultdict(dict)
    for metric in metrics:
        for one, other in pairs[metric]:
            name = " ".join((one.system, one.condition)).strip()
            edits[name, one.item][metric] = one.value or 0.0, other.value or 0.0

    def apart(edit: tuple[str, ...]) -> float:
        return -float(np.mean([abs(one - other) for one, other in edits[edit].values()]))

    lines = []
    for edit in sorted(edits, key=apart):
        both = [edits[edit].get(metric, (None, None)) for metric in metrics]
        cells = tuple(Cell(value) for pair in both for value in pair)
        lines.append(TableRow(" ".join(edit), edit, cells, ""))
    columns = tuple(
        Column(metric.capitalize(), name, metric) for metric in metrics for name in _COLUMNS[:2]
    )
    title = "People against the judge, edit by edit"
    plan = Layout(FIGURE, title, ("Method", "Edit"), columns, suite, kind="Figure")
    return Table(plan, tuple(lines), (_measured_by(sides, metrics),), ())


def agreement_notes(rows: Sequence[Result], intervals: Bootstrap | None) -> list[str]:
    """How the annotators of people's scores agree; nothing where each edit has but one."""
    found = reliability_in(rows, intervals)
    if not found:
        return []
    people = max(one.annotators for one in found.values())
    alpha = [_said(metric, one.ordinal, intervals) for metric, one in found.items()]
    kappa = [_said(metric, one.kappa, intervals) for metric, one in found.items()]
    return [
        f"Agreement of {people} annotators: Krippendorff's alpha (ordinal) {', '.join(alpha)}; "
        f"Cohen's quadratic kappa{' (mean of all pairs)' * (people > 2)} {', '.join(kappa)}."
    ]


def _said(metric: str, found: Coefficient, intervals: Bootstrap | None) -> str:
    if found.value is None:
        return f"{metric} undefined"
    bounds = found.interval if intervals else None
    between = f" [{bounds.low:.2f}, {bounds.high:.2f}]" if bounds else ""
    return f"{metric} {found.value:.2f}{between}"


def _sides(rows: Sequence[Result], suite: str) -> dict[str, tuple[list[Result], list[Result]]]:
    """The rows of people and of the judge, by perspective."""
    rows = select(rows, suite=suite)
    return {
        metric: (
            select(rows, metric=metric, people=True),
            select(rows, metric=metric, people=False),
        )
        for metric in PERSPECTIVES
    }


def _line(
    name: tuple[str, str], found: Sequence[SystemAgreement | None], intervals: Bootstrap | None
) -> TableRow:
    """One system's row; `found` is by perspective."""
    label = " ".join(name).strip()
    cells: list[Cell] = []
    for one in found:
        means = [Cell(one.first), Cell(one.second)] if one else [Cell(), Cell()]
        cells += [*means, _rank(one.correlation if one else None, intervals)]
    counts = [one.correlation.items if one and one.correlation else 0 for one in found]
    coverage = " / ".join(dict.fromkeys(str(count) for count in counts))
    return TableRow(label, (label,), tuple(cells), coverage)


def _rank(found: Correlation | None, intervals: Bootstrap | None) -> Cell:
    """Spearman's correlation."""
    if found is None:
        return Cell()
    return Cell(found.spearman.value, found.spearman.interval if intervals else None)


def _measured_by(
    sides: dict[str, tuple[list[Result], list[Result]]], metrics: Sequence[str]
) -> str:
    """Who the two sides are."""
    people, judge = (
        "; ".join(
            dict.fromkeys(row.measure for m in metrics for row in sides[m][side] if row.measure)
        )
        for side in (0, 1)
    )
    return f"People: {people}. Judge: {judge}."


def _order_note(
    found: dict[str, dict[tuple[str, str], SystemAgreement]], metrics: Sequence[str]
) -> list[str]:
    """Whether both put the systems in the same order; of one system there is nothing to say."""
    said = []
    for metric in metrics:
        means = np.asarray([(one.first, one.second) for one in found[metric].values()])
        if len(means) > 1 and (value := spearman(*means.T)) is not None:
            said.append(f"{metric} {value:.2f}")
    return [f"Spearman of the systems' means: {', '.join(said)}."] if said else []
