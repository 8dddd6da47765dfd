"""What is known of judges, kept as a file a judge, and shown as one table over all of them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mre_jax.errors import DataError
from mre_jax.evaluation.meta.measure import Agreement, Share
from mre_jax.evaluation.statistics.coefficients import Coefficient
from mre_jax.evaluation.statistics.intervals import Interval
from mre_jax.evaluation.statistics.pairs import OrderBias
from mre_jax.evaluation.tables.layout import Column, Layout
from mre_jax.evaluation.tables.table import Cell, Table, TableRow
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import read_json, to_line

FILE = "judge.json"
"""The record in a judge's folder."""

KIND = "Judges"


def _share(group: str, title: str, name: str) -> Column:
    return Column(group, title, name, decimals=1, unit="%")


_COLUMNS = (
    _share("Pairs", "Preferred", "decided"),
    _share("Pairs", "Same of 3", "accuracy"),
    _share("Pairs", "Left open", "ties"),
    _share("Pairs", "All of item", "whole"),
    Column("", "Spearman", "correlation"),
    _share("Order", "Agree", "order"),
    Column("Order", "First", "order", decimals=1),
    _share("", "Repeats", "same"),
    Column("Each", "USD", "usd", decimals=5),
    Column("Each", "s", "seconds"),
)
_NOTES = (
    "Preferred: of the pairs of which people prefer one, where the judge does too, its ties as "
    "halves. Same of 3: it says what people say, of first, second, neither. All of item: right of "
    "all pairs of an item that has several. First: points from even that the edit shown first is "
    "chosen. Repeats: the same answer every time. Each: for one answer; seconds at the concurrency "
    "it was asked with.",
)


@dataclasses.dataclass(frozen=True)
class JudgeRecord:
    """A judge on one set.

    Attributes:
        judge: its name, with the prompts.
        human_set: what people's judgements it was held to.
        measured: who answered, and how.
        agreements: one a perspective.
        usd: US dollars an answer.
        seconds: time an answer took, of all questions at once; None if it is not known.
    """

    judge: str
    human_set: str
    measured: str
    agreements: Sequence[Agreement]
    usd: float
    seconds: float | None

    def write(self, folder: Path) -> None:
        """Keeps the record in a folder."""
        write_atomically(folder / FILE, to_line(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "JudgeRecord":
        """Reads what `write` has written.

        Raises:
            DataError: if it is something else.
        """
        values = read_json(path)
        try:
            agreements = [_agreement(one) for one in values["agreements"]]
            return cls(**{**values, "agreements": agreements})
        except (TypeError, KeyError):
            raise DataError(f"{path}: no record of a judge; remove the file") from None


def read_records(folder: Path) -> list[JudgeRecord]:
    """The records of all judges below a folder."""
    return [JudgeRecord.read(path) for path in sorted(folder.glob(f"*/{FILE}"))]


def judge_tables(records: Sequence[JudgeRecord]) -> list[Table]:
    """A table for every set and perspective: a row a judge, the best first."""
    series: dict[tuple[str, str], list[tuple[JudgeRecord, Agreement]]] = {}
    for record in records:
        for one in record.agreements:
            series.setdefault((record.human_set, one.perspective), []).append((record, one))
    return [_table(*key, of) for key, of in series.items()]


def _table(
    human_set: str, perspective: str, judges: Sequence[tuple[JudgeRecord, Agreement]]
) -> Table:
    def best(one: tuple[JudgeRecord, Agreement]) -> float:
        decided = one[1].decided
        return -decided.value if decided else 1.0

    ordered = sorted(judges, key=best)
    plan = Layout(0, f"{human_set}, {perspective}", ("Judge",), _COLUMNS, human_set, kind=KIND)
    rows = tuple(_row(record, one) for record, one in ordered)
    measured = tuple(f"{record.judge}: {record.measured}." for record, _ in ordered)
    return Table(plan, rows, (*_NOTES, *measured), ())


def _row(record: JudgeRecord, one: Agreement) -> TableRow:
    coverage = f"{one.pairs}/{one.asked}"
    return TableRow(record.judge, (record.judge,), tuple(_cells(record, one)), coverage)


def _cells(record: JudgeRecord, one: Agreement) -> Iterator[Cell]:
    for share in (one.decided, one.accuracy, one.ties):
        yield _percent(share.value, share.interval) if share else Cell()
    yield _percent(one.whole)
    yield Cell(one.correlation.value, one.correlation.interval) if one.correlation else Cell()
    order = one.order
    yield _percent(order.agreed, order.agreed_interval) if order else Cell()
    yield _percent(order.first, order.first_interval) if order else Cell()
    yield _percent(one.same)
    yield Cell(record.usd)
    yield Cell(record.seconds)


def _percent(value: float | None, interval: Interval | None = None) -> Cell:
    if value is None:
        return Cell()
    scaled = Interval(100 * interval.low, 100 * interval.high) if interval else None
    return Cell(100 * value, scaled)


def _agreement(values: Mapping[str, Any]) -> Agreement:
    found = dict(values)
    for name in ("accuracy", "decided", "ties"):
        if found[name] is not None:
            found[name] = Share(found[name]["value"], _interval(found[name]["interval"]))
    if found["correlation"] is not None:
        one = found["correlation"]
        found["correlation"] = Coefficient(one["value"], _interval(one["interval"]))
    if found["order"] is not None:
        one = found["order"]
        found["order"] = OrderBias(
            one["agreed"],
            _interval(one["agreed_interval"]),
            one["first"],
            _interval(one["first_interval"]),
        )
    return Agreement(**found)


def _interval(values: Mapping[str, float] | None) -> Interval | None:
    return None if values is None else Interval(**values)
