"""A filled table, before it is written in some format."""

import dataclasses

from mre_jax.evaluation.statistics.intervals import Interval
from mre_jax.evaluation.tables.layout import Layout, Lead


@dataclasses.dataclass(frozen=True)
class Cell:
    """A number of ours, the paper's, or both; all None where there is nothing.

    Attributes:
        value: ours, in the column's unit.
        interval: confidence interval of `value`.
        paper: the paper's number.
    """

    value: float | None = None
    interval: Interval | None = None
    paper: float | None = None


@dataclasses.dataclass(frozen=True)
class TableRow:
    """One row, ready to be printed; `coverage` is "" if none of it is ours."""

    label: str
    lead: tuple[Lead, ...]
    cells: tuple[Cell, ...]
    coverage: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A whole table.

    Attributes:
        layout: its headings.
        rows: what stands below them.
        notes: lines to print under it; the missing cells are the last.
        missing: names of the cells that ought to be ours and are not there.
    """

    layout: Layout
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        from mre_jax.evaluation.tables.formats import to_text

        return to_text(self)
