"""What comparisons of two edits come to: who wins how often, and how much the order decided.

Each pair is shown in both orders, a row of results each. Where both choose the same edit, it wins;
where they do not, the pair is a tie. A pair without an answer in one order counts nowhere.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable, describe
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.bradley_terry import Strength, bradley_terry
from mre_jax.evaluation.statistics.compare import WinRate
from mre_jax.evaluation.statistics.intervals import (
    Bootstrap,
    Grouped,
    Interval,
    few_groups_note,
    mean_interval,
    share_interval,
)


@dataclasses.dataclass(frozen=True)
class Match:
    """One pair of edits, seen in both orders.

    Attributes:
        one, other: the systems, with the rewards they were asked for.
        points: what `one` gets: 1 if it is chosen in both orders, 0 if `other` is, 0.5 otherwise.
        agreed: whether both orders say the same.
        first: how often in both orders the edit that was shown first was chosen, as a share.
        item, group: of the benchmark.
    """

    one: str
    other: str
    points: float
    agreed: bool
    first: float
    item: str
    group: str


@dataclasses.dataclass(frozen=True)
class OrderBias:
    """How much the order decides, in which two edits are shown.

    Attributes:
        agreed: share of pairs of which both orders say the same.
        agreed_interval: of `agreed`; None for a single group.
        first: share of answers that choose the edit shown first, less a half: 0 without a bias, 0.5
            if it is always chosen.
        first_interval: of `first`.
    """

    agreed: float
    agreed_interval: Interval | None
    first: float
    first_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class PairScores:
    """All comparisons of one suite in one metric.

    Attributes:
        suite, metric: of the results.
        systems: with their rewards, the strongest first.
        strengths: of each of these.
        records: wins, ties and losses of each against all others.
        matrix: of each against each other, that were compared.
        order: bias of the judge for either place.
        matches: number of pairs with an answer in both orders.
        asked: number of pairs.
        groups: number of pictures.
        measured: who compared, and how.
    """

    suite: str
    metric: str
    systems: tuple[str, ...]
    strengths: dict[str, Strength]
    records: dict[str, WinRate]
    matrix: dict[tuple[str, str], WinRate]
    order: OrderBias
    matches: int
    asked: int
    groups: int
    measured: str

    @property
    def coverage(self) -> str:
        """As "12/14"."""
        return f"{self.matches}/{self.asked}"


def all_pair_scores(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[PairScores]:
    """The comparisons of every suite and metric, in the order they first appear.

    Those without any pair that was answered in both orders are left out.

    Raises:
        DataError: if rows of one suite and metric are of different judges or settings, or as
            `bradley_terry`.
    """
    series: dict[tuple[str, str], list[Result]] = {}
    for row in rows:
        series.setdefault((row.suite, row.metric), []).append(row)
    found = [pair_scores(of, bootstrap) for of in series.values()]
    return [one for one in found if one is not None]


def pair_scores(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> PairScores | None:
    """The comparisons of one suite in one metric; None if no pair was answered in both orders.

    Raises:
        DataError: as `all_pair_scores`.
    """
    bootstrap = bootstrap or Bootstrap()
    check_comparable(rows)
    found = matches_of(rows)
    if not found:
        return None
    names = list(dict.fromkeys(name for match in found for name in (match.one, match.other)))
    place = {name: index for index, name in enumerate(names)}
    strengths = bradley_terry(
        np.asarray([place[match.one] for match in found]),
        np.asarray([place[match.other] for match in found]),
        np.asarray([match.points for match in found]),
        [match.group for match in found],
        len(names),
        bootstrap,
    )
    by_name = dict(zip(names, strengths, strict=True))
    systems = tuple(sorted(names, key=lambda name: by_name[name].rank))
    return PairScores(
        suite=rows[0].suite,
        metric=rows[0].metric,
        systems=systems,
        strengths=by_name,
        records={name: _record(found, name, None, bootstrap) for name in names},
        matrix={
            (name, other): _record(found, name, other, bootstrap)
            for name in names
            for other in names
            if any({name, other} == {match.one, match.other} for match in found)
        },
        order=order_bias(found, bootstrap),
        matches=len(found),
        asked=len({_pair(row) for row in rows}),
        groups=len({match.group for match in found}),
        measured="; ".join(dict.fromkeys(describe(row) for row in rows if row.status == "ok")),
    )


def matches_of(rows: Sequence[Result]) -> list[Match]:
    """The pairs that have an answer in both orders, in the order of the rows.

    Args:
        rows: of one metric.
    """
    pairs: dict[tuple[object, ...], list[Result]] = {}
    for row in rows:
        if row.status == "ok":
            pairs.setdefault(_pair(row), []).append(row)
    return [_match(*both) for both in pairs.values() if len(both) == 2]


def order_bias(found: Sequence[Match], bootstrap: Bootstrap | None = None) -> OrderBias:
    """How often the orders agree, and how often the edit shown first is chosen."""
    bootstrap = bootstrap or Bootstrap()
    groups = [match.group for match in found]
    agreed = Grouped.of(np.asarray([float(match.agreed) for match in found]), groups)
    first = Grouped.of(np.asarray([match.first - 0.5 for match in found]), groups)
    return OrderBias(
        agreed=float(agreed.values.mean()),
        agreed_interval=share_interval(agreed, bootstrap),
        first=float(first.values.mean()),
        first_interval=mean_interval(first, bootstrap, (-0.5, 0.5)),
    )


def pair_lines(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[str]:
    """The comparisons as lines of text, for the terminal."""
    lines: list[str] = []
    groups = []
    for found in all_pair_scores(rows, bootstrap):
        groups.append(found.groups)
        lines.append(f"{found.suite} {found.metric}: {found.coverage} pairs, {_order(found.order)}")
        lines += list(_system_lines(found))
    note = few_groups_note(groups) if groups else None
    return lines + ([note] if note else [])


def _order(order: OrderBias) -> str:
    return (
        f"both orders agree on {order.agreed:.1%}{_percent(order.agreed_interval)}, first shown "
        f"chosen {order.first:+.1%}{_percent(order.first_interval)} from even"
    )


def _system_lines(found: PairScores) -> Iterator[str]:
    for name in found.systems:
        strength, record = found.strengths[name], found.records[name]
        low, high = strength.ranks
        between = ""
        if strength.interval is not None:
            between = f" [{strength.interval.low:.0f}, {strength.interval.high:.0f}]"
        yield (
            f"    {strength.rank}. [{low}, {high}] {name}: Elo {strength.elo:.0f}{between}, win "
            f"rate {record.rate:.1%}{_percent(record.interval)}: {record.wins} won, {record.ties} "
            f"tied, {record.losses} lost"
        )


def _percent(interval: Interval | None) -> str:
    return f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ""


def _pair(row: Result) -> tuple[object, ...]:
    """What both orders of a pair share."""
    return row.suite, row.item, row.metric, frozenset((row.side, row.against))


def _match(row: Result, swapped: Result) -> Match:
    if row.value is None or swapped.value is None:
        raise DataError(f"item {row.item}: a pair without a value")
    there, back = row.value, 1 - swapped.value  # what the first of `row` gets in either order
    return Match(
        one=row.side,
        other=row.against,
        points=there if there == back else 0.5,
        agreed=there == back,
        first=(row.value + swapped.value) / 2,
        item=row.item,
        group=row.group,
    )


def _record(found: Sequence[Match], name: str, other: str | None, bootstrap: Bootstrap) -> WinRate:
    """What a system got against another, or against all."""
    played = [
        match
        for match in found
        if name in (match.one, match.other) and (other is None or other in (match.one, match.other))
    ]
    points = np.asarray([m.points if m.one == name else 1 - m.points for m in played])
    interval = mean_interval(
        Grouped.of(points, [match.group for match in played]), bootstrap, (0.0, 1.0)
    )
    wins, losses = int((points == 1).sum()), int((points == 0).sum())
    return WinRate(wins, len(played) - wins - losses, losses, float(points.mean()), interval)
