"""Tables of comparisons: strengths of systems, and how often each wins against each other."""

from collections.abc import Sequence

from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.statistics.bradley_terry import ADDED
from mre_jax.evaluation.statistics.compare import WinRate
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval, few_groups_note
from mre_jax.evaluation.statistics.pairs import PairScores, all_pair_scores
from mre_jax.evaluation.tables.layout import Column, Layout
from mre_jax.evaluation.tables.table import Cell, Table, TableRow

KIND = "Pairs"
MEANING = (
    "A pair is shown in both orders; where these disagree it is a tie, half a win of either. Elo: "
    "1000 + 400 log10 of the strength of Bradley and Terry (1952), with a mean of 1000; "
    f"{ADDED:g} wins of either are added to each pair of systems."
)


def pair_tables(
    rows: Sequence[Result], suite: str | None = None, intervals: Bootstrap | None = None
) -> list[Table]:
    """A table for every suite and metric: a row a system, the strongest first.

    Args:
        rows: of pairs; see `Result.against`.
        suite: the only one that counts.
        intervals: settings of the intervals; None leaves them out.

    Raises:
        DataError: if rows of one table are of different judges or settings.
    """
    chosen = rows if suite is None else select(rows, suite=suite)
    found = all_pair_scores(chosen, intervals or Bootstrap(1))
    return [_table(one, intervals) for one in found]


def _table(found: PairScores, intervals: Bootstrap | None) -> Table:
    shown = intervals is not None
    columns = (
        Column("", "Elo", found.metric, decimals=0),
        Column("", "Win rate", found.metric, decimals=1, unit="%"),
        *(Column("Against", name, found.metric, decimals=1, unit="%") for name in found.systems),
    )
    plan = Layout(0, f"{found.suite}, {found.metric}", ("System",), columns, found.suite, kind=KIND)
    rows = tuple(_row(found, name, shown) for name in found.systems)
    return Table(plan, rows, tuple(_notes(found, intervals)), ())


def _row(found: PairScores, name: str, shown: bool) -> TableRow:
    strength, record = found.strengths[name], found.records[name]
    cells = [
        Cell(strength.elo, strength.interval if shown else None),
        _share(record, shown),
        *(_share(found.matrix.get((name, other)), shown) for other in found.systems),
    ]
    played = record.wins + record.ties + record.losses
    return TableRow(name, (name,), tuple(cells), f"{played}")


def _share(record: WinRate | None, shown: bool) -> Cell:
    """A win rate in percent."""
    if record is None:
        return Cell()
    bounds = record.interval if shown else None
    scaled = Interval(100 * bounds.low, 100 * bounds.high) if bounds else None
    return Cell(100 * record.rate, scaled)


def _notes(found: PairScores, intervals: Bootstrap | None) -> list[str]:
    notes = [MEANING, f"Compared by {found.measured}; pairs: {found.coverage}."]
    notes.append(
        f"Both orders agree on {found.order.agreed:.1%}; the edit shown first is chosen "
        f"{100 * found.order.first:+.1f} points from even."
    )
    if intervals is not None:
        notes.append(f"In square brackets: {intervals.confidence:.0%} intervals over groups.")
        notes += [note for note in [few_groups_note([found.groups])] if note]
    return notes
