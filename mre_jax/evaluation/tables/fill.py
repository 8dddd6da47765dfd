"""The paper's tables, filled with our results, with the paper's numbers beside them if asked for.

A row of a table is called by a label, which for Tables 1, 2, 3 and 7 is the system's name as the
paper has it. Which of our systems fills it is by default the one of that name; any other is named
by a `Source`. Rows that the paper does not have may be added in the same way.
"""

import collections
import dataclasses
import itertools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.provenance import check_comparable, describe
from mre_jax.evaluation.results import WHOLE_SET, Result, select
from mre_jax.evaluation.statistics.compare import (
    Coverage,
    Summary,
    coverage,
    macro_mean,
    summarize,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval, few_groups_note
from mre_jax.evaluation.tables import formats as table_formats
from mre_jax.evaluation.tables.layout import PAPER_JUDGE, Column, Layout, Lead, PaperRow, layout
from mre_jax.evaluation.tables.people import agreement_notes
from mre_jax.evaluation.tables.table import Cell, Table, TableRow
from mre_jax.judges.settings import UNKNOWN

_LISTED = (1, 2, 3, 7, 12, 13, 14, 15, 16, 17, 18)
"""Tables that list systems: any other system we have is a further row."""

Measured = tuple[str, bool]
"""A metric, and whether people gave it."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Whose results fill a row.

    Attributes:
        system: the editor's name in the results.
        condition: the reward that was asked for; None takes the only one there is.
        lead: the cells left of the numbers, for rows that the paper does not have, or to replace
            its own; empty for the default.
    """

    system: str
    condition: str | None = None
    lead: tuple[Lead, ...] = ()


def render(number: int, rows: Sequence[Result], format: str = "text", **options: Any) -> str:
    """One of the paper's tables as a text.

    Args:
        number, rows, options: arguments of `build`.
        format: "text", "markdown", "latex" or "csv".

    Raises:
        ConfigError: for an unknown format, or as `build`.
        DataError: as `build`.
    """
    if format not in table_formats.WRITERS:
        raise ConfigError(f"format {format!r} is not one of {', '.join(table_formats.WRITERS)}")
    return table_formats.WRITERS[format](build(number, rows, **options))


def build(
    number: int,
    rows: Sequence[Result],
    *,
    systems: Mapping[str, Source] | None = None,
    paper: bool = False,
    intervals: Bootstrap | None = None,
    suite: str | None = None,
    apart: bool = False,
) -> Table:
    """One of the paper's tables as values.

    Args:
        number: the paper's, 1 to 11, or one of the further tables of `layout.LAYOUTS`.
        rows: results; those of other suites are passed over.
        systems: by the row's label, whose results fill it. If given, only these rows are shown, and
            with `paper` the paper's too. By default every row of the paper is shown and filled by
            the system of that name.
        paper: whether published numbers stand beside ours: the paper's, or the table's own.
        intervals: settings of confidence intervals; None leaves them out.
        suite: the benchmark to take rows of, instead of the table's own.
        apart: systems may have been judged in different ways; see `provenance.side_by_side`.

    Raises:
        ConfigError: for an unknown table.
        DataError: if the rows for one metric are of different judges, or if a row could be filled
            by several conditions of its system.
    """
    plan = layout(number)
    ours = _ours(rows, plan, suite or plan.suite)
    sources = _default_sources(plan, ours) if systems is None else systems
    shown = [row for row in plan.rows if row.label in sources or paper]
    known = {row.label for row in plan.rows}
    shown += [
        PaperRow(label, _further_lead(plan, label, len(shown) + index), ())
        for index, label in enumerate(label for label in sources if label not in known)
    ]
    used: list[Result] = []
    filled, missing, groups = [], [], []
    for entry in shown:
        source = sources.get(entry.label)
        mine = _series(ours, source, plan, entry.label)
        used += [row for series in mine.values() for row in series]
        parts = {_part(column): column for column in plan.columns}
        summaries = {part: _summary(column, mine, intervals) for part, column in parts.items()}
        groups += [one.groups for one in summaries.values() if one and one.mean is not None]
        row = _fill(entry, source, summaries, plan, coverage=_coverage(mine), paper=paper)
        filled.append(row)
        if source is not None:
            missing += _missing(row, plan)
    for people in (False, True):
        check_comparable(select(used, people=people), apart=apart)
    notes = _notes(plan, used, missing, groups, paper=paper, intervals=intervals)
    return Table(plan, tuple(filled), tuple(notes), tuple(missing))


def _ours(rows: Sequence[Result], plan: Layout, suite: str) -> list[Result]:
    wanted = {(column.metric, column.people) for column in plan.columns}
    return [
        row
        for row in rows
        if row.suite == suite and (row.metric, row.people) in wanted
        if not plan.subset or plan.subset in row.subsets
    ]


def _part(column: Column) -> Hashable:
    """What a column's numbers are taken over, and how; accuracy and score share it."""
    return column.metric, column.people, column.kind, column.subset, column.macro


def _summary(
    column: Column, mine: Mapping[Measured, Sequence[Result]], intervals: Bootstrap | None
) -> Summary | None:
    """What a column shows of one row's results; None if it has none of them."""
    rows = [
        row
        for row in mine.get((column.metric, column.people), ())
        if column.kind in ("", row.kind)
        if not column.subset or column.subset in row.subsets
    ]
    if not rows:
        return None
    if not column.macro:
        return summarize(rows, intervals)
    found = macro_mean(rows, intervals)
    return Summary(found.mean, found.interval, None, None, found.coverage, found.groups)


def _default_sources(plan: Layout, ours: Sequence[Result]) -> dict[str, Source]:
    series = dict.fromkeys((row.system, row.condition) for row in ours)
    if plan.number == 6:
        return _sweep_sources(plan, series)
    names = {system for system, _ in series}
    further = plan.kind == "Further table"  # ours to fill are only those that we have
    labels = [row.label for row in plan.rows if not further or row.label in names]
    sources = {label: Source(label) for label in labels}
    others = [pair for pair in series if pair[0] not in sources]
    if plan.number == 9 and len(others) == 1:
        sources["Ours"] = Source(*others[0])
    elif plan.number in _LISTED:
        for system, condition in others:
            several = sum(name == system for name, _ in others) > 1
            label = f"{system} {condition}" if several else system
            sources[label] = Source(system, condition)
    return sources


def _sweep_sources(plan: Layout, series: Mapping[tuple[str, str], None]) -> dict[str, Source]:
    """Table 6: one system under several rewards, the paper's and whatever else was asked for."""
    labels = [row.label for row in plan.rows]
    asked = collections.Counter(system for system, condition in series if condition in labels)
    systems = list(asked)
    if len(systems) > 1:  # a single reward is no sweep
        systems = [system for system, rewards in asked.items() if rewards > 1]
    if len(systems) > 1:
        raise DataError(
            f"Table {plan.number}: reward scores were asked of several systems, "
            f"{', '.join(systems)}; say which one fills its rows"
        )
    if not systems:
        return {label: Source("", label) for label in labels}
    (system,) = systems
    conditions = [condition for name, condition in series if name == system and condition]
    return {label: Source(system, label) for label in dict.fromkeys([*labels, *conditions])}


def _series(
    ours: Sequence[Result], source: Source | None, plan: Layout, label: str
) -> dict[Measured, list[Result]]:
    """The results for one row, by metric and whether they are people's."""
    if source is None:
        return {}
    mine = [row for row in ours if row.system == source.system]
    if source.condition is not None:
        mine = [row for row in mine if row.condition == source.condition]
    conditions = list(dict.fromkeys(row.condition for row in mine))
    if len(conditions) > 1:
        raise DataError(
            f"Table {plan.number}, row {label!r}: {source.system} has results for the rewards "
            f"{' and '.join(repr(condition) for condition in conditions)}; say which"
        )
    series: dict[Measured, list[Result]] = {}
    for row in mine:
        series.setdefault((row.metric, row.people), []).append(row)
    return series


def _further_lead(plan: Layout, label: str, index: int) -> tuple[Lead, ...]:
    """The cells left of the numbers in a row that the paper does not have."""
    texts = [str(index + 1)] if plan.lead[0] == "#" else []
    texts += label.split(",") if plan.number == 6 else [label]
    texts = texts[: len(plan.lead)]
    return (*texts, *[""] * (len(plan.lead) - len(texts)))


def _fill(
    entry: PaperRow,
    source: Source | None,
    summaries: Mapping[Hashable, Summary | None],
    plan: Layout,
    *,
    coverage: str,
    paper: bool,
) -> TableRow:
    lead = source.lead if source is not None and source.lead else entry.lead
    if len(lead) != len(plan.lead):
        raise ConfigError(
            f"Table {plan.number}, row {entry.label!r}: {len(lead)} cells left of the numbers; "
            f"want {len(plan.lead)} ({', '.join(plan.lead)})"
        )
    theirs = entry.values if paper else ()
    cells = [
        _cell(column, summaries[_part(column)], number)
        for column, number in itertools.zip_longest(plan.columns, theirs)
    ]
    return TableRow(entry.label, lead, tuple(cells), coverage)


def _cell(column: Column, summary: Summary | None, paper: float | None) -> Cell:
    if summary is None:
        return Cell(paper=paper)
    value = summary.accuracy if column.accuracy else summary.mean
    interval = summary.accuracy_interval if column.accuracy else summary.interval
    if value is None:
        return Cell(paper=paper)
    if interval is not None:
        interval = Interval(interval.low * column.scale, interval.high * column.scale)
    return Cell(value * column.scale, interval, paper)


def _coverage(mine: Mapping[Measured, Sequence[Result]]) -> str:
    """One coverage if all metrics share it, else each by its metric's name."""
    covers: dict[str, Coverage] = {
        f"{metric} by people" if people and (metric, False) in mine else metric: coverage(series)
        for (metric, people), series in mine.items()
        if any(row.item != WHOLE_SET for row in series)
    }
    texts = dict.fromkeys(str(cover) for cover in covers.values())
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{metric} {cover}" for metric, cover in covers.items())


def _missing(row: TableRow, plan: Layout) -> list[str]:
    names = [
        column.heading
        for column, cell in zip(plan.columns, row.cells, strict=True)
        if cell.value is None
    ]
    if len(names) == len(plan.columns):
        return [row.label]
    return [f"{row.label} ({', '.join(names)})"] if names else []


def _notes(
    plan: Layout,
    used: Sequence[Result],
    missing: Sequence[str],
    groups: Sequence[int],
    *,
    paper: bool,
    intervals: Bootstrap | None,
) -> list[str]:
    notes = [plan.note] if plan.note else []
    measures = dict.fromkeys(describe(row) for row in used if row.status == "ok")
    if measures:
        notes.append(f"Measured by {'; '.join(measures)}.")
    if paper:
        judge = f" (its judge: {PAPER_JUDGE})" if plan.columns[0].metric == "following" else ""
        judge = " (people)" if plan.human else judge
        published = plan.published or f"the paper's numbers, ICLR 2025{judge}"
        notes.append(f"In round brackets: {published}.")
        notes += _other_protocol(plan, used)
    notes += agreement_notes(used, intervals)
    if intervals is not None:
        notes.append(f"In square brackets: {intervals.confidence:.0%} intervals over groups.")
        notes += [note for note in [few_groups_note(groups)] if note]
    if missing:
        notes.append(f"Missing: {'; '.join(missing)}.")
    return notes


def _other_protocol(plan: Layout, used: Sequence[Result]) -> list[str]:
    """In what a judge came to our numbers otherwise than to the published ones."""
    judged = [row for row in used if row.status == "ok" and not row.people]
    said = []
    for field, theirs in plan.protocol.items():
        ours = dict.fromkeys(_setting(row, field) for row in judged)
        others = [value for value in ours if not _is_snapshot(value, theirs)]
        if others:
            said.append(f"{field} {', '.join(others)} (theirs {theirs})")
    return [f"Not the protocol of the published numbers: {'; '.join(said)}."] if said else []


def _setting(row: Result, field: str) -> str:
    return row.measure if field == "judge" else str(row.provenance.get(field, UNKNOWN))


def _is_snapshot(value: str, name: str) -> bool:
    """Whether a judge is the one of a name, or a dated snapshot of it."""
    return value == name or value.startswith(f"{name}-20")
