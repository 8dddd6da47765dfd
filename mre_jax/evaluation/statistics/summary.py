"""Statistics as lines of text, for the terminal."""

from collections.abc import Iterator, Sequence

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import WHOLE_SET, Result, select
from mre_jax.evaluation.statistics.agreement import (
    correlate,
    correlate_systems,
    largest_differences,
    pair_edits,
    reliability,
    self_consistency,
)
from mre_jax.evaluation.statistics.coefficients import Coefficient
from mre_jax.evaluation.statistics.compare import (
    Difference,
    WinRate,
    compare,
    has_answers,
    macro_mean,
    summarize,
    win_rate,
)
from mre_jax.evaluation.statistics.intervals import Bootstrap, Interval, few_groups_note, holm
from mre_jax.evaluation.statistics.ranking import Ranked, overall, rank_systems
from mre_jax.judges.others.ratings import Rating
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.reward.scores import PERSPECTIVES


def summary_lines(
    rows: Sequence[Result], bootstrap: Bootstrap | None = None, *, types: bool = False
) -> list[str]:
    """A line of mean, accuracy and coverage for every metric of every system.

    Args:
        types: whether lines by type of instruction follow.
    """
    lines: list[str] = []
    groups: list[int] = []
    for name, metric, series in _all_series(rows):
        lines.append(f"{name}: {metric} {_summary(series, bootstrap, groups)}")
        kinds = sorted({item.kind for item in series if item.kind}, key=rank) if types else []
        for kind in kinds:
            of = _summary(select(series, kind=kind), bootstrap, groups)
            lines.append(f"    {kind}: {of}")
    return lines + _note(groups)


def rank(name: str) -> tuple[int, str]:
    """What types and perspectives are sorted by: those of the paper as there, others by name."""
    known = (*EDIT_TYPES, *PERSPECTIVES)
    return (known.index(name) if name in known else len(known)), name


def macro_lines(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[str]:
    """A line of the mean over the types of instruction for every metric of every system."""
    lines = []
    for name, metric, series in _all_series(rows):
        found = macro_mean(series, bootstrap)
        value = "no value" if found.mean is None else f"{found.mean:.4g}"
        value += f" {_range(found.interval)}" if found.interval else ""
        lines.append(
            f"{name}: {metric} {value}, mean of the means of {found.kinds} types ({found.coverage})"
        )
    return lines


def subset_lines(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[str]:
    """`macro_lines` of every part of a benchmark that has numbers of its own, behind its name."""
    names = dict.fromkeys(name for row in rows for name in row.subsets)
    return [
        f"{name}, {line}"
        for name in names
        for line in macro_lines([row for row in rows if name in row.subsets], bootstrap)
    ]


def compare_lines(
    rows: Sequence[Result], first: str, *others: str, bootstrap: Bootstrap | None = None
) -> list[str]:
    """For every metric that two systems have: differences of score and accuracy, and win rate.

    Args:
        first, others: "SYSTEM", or "SYSTEM@REWARD" if the system has several; the first less each
            of the others.

    Raises:
        ConfigError: without others.
        DataError: if one of them has no results, or shares no metric with the first.
    """
    if not others:
        raise ConfigError(f"--compare {first}: with what? Name two systems or more")
    found: list[tuple[str, Difference, str]] = []
    for other in others:
        against = f"{first} less {other}, " if len(others) > 1 else ""
        for name, difference, wins in _compared(rows, first, other, bootstrap):
            found.append((against + name, difference, wins))
    corrected = holm([difference.p for _, difference, _ in found])
    lines = [
        f"{name} {_difference(difference, 100 if 'accuracy' in name else 1)}, p "
        f"{difference.p:.4f} (Holm {p:.4f}){wins}"
        for (name, difference, wins), p in zip(found, corrected, strict=True)
    ]
    if len(found) > 1:
        lines.append(f"Holm: p corrected for the {len(found)} differences above.")
    return lines + _note([difference.groups for _, difference, _ in found])


def _compared(
    rows: Sequence[Result], first: str, second: str, bootstrap: Bootstrap | None
) -> list[tuple[str, Difference, str]]:
    """What is compared, by how much, and the win rate in words."""
    sides = [_side(rows, name) for name in (first, second)]
    found: list[tuple[str, Difference, str]] = []
    for row in _firsts(sides[0], "suite", "people", "metric"):
        one, other = (
            select(side, suite=row.suite, metric=row.metric, people=row.people) for side in sides
        )
        if not other or len({item.group for item in one}) < 2:
            continue
        name = f"{row.suite}{_PEOPLE * row.people}: {row.metric}"
        wins = _wins(win_rate(one, other, bootstrap))
        found.append((f"{name} score", compare(one, other, bootstrap), wins))
        if has_answers([*one, *other]):
            found.append((f"{name} accuracy", compare(one, other, bootstrap, accuracy=True), ""))
    if not found:
        raise DataError(f"{first} and {second} share no metric of two groups or more")
    return found


def ranking_lines(rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[str]:
    """A line for every metric of every suite: the systems, best first, with their possible ranks.

    Where a judge has several perspectives, their mean comes first.

    Raises:
        DataError: if there is no suite with two systems.
    """
    lines, groups = [], []
    for row in _firsts(rows, "suite", "people"):
        of = select(rows, suite=row.suite, people=row.people)
        by_metric = [select(of, metric=first.metric) for first in _firsts(of, "metric")]
        for series in (overall(of), *by_metric):
            several = len({(one.system, one.condition) for one in series}) > 1
            if several and series[0].item != WHOLE_SET:
                ranked = ", ".join(map(_place, rank_systems(series, bootstrap)))
                lines.append(f"{row.suite}{_PEOPLE * row.people}: {series[0].metric}: {ranked}")
                groups.append(len({one.group for one in series}))
    if not lines:
        raise DataError("no two systems have results in the same suite; there is nothing to rank")
    return lines + _note(groups)


def _difference(found: Difference, scale: int) -> str:
    """In points of percent if `scale` is 100."""
    low, high = scale * found.interval.low, scale * found.interval.high
    digits, unit = (1, " points") if scale == 100 else (3, "")
    counts = f"{found.items} items, {found.groups} groups, {found.unpaired} unpaired"
    return (
        f"{scale * found.mean:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}] ({counts})"
    )


def _wins(found: WinRate) -> str:
    interval = ""
    if found.interval is not None:
        interval = f" [{100 * found.interval.low:.1f}, {100 * found.interval.high:.1f}]"
    return (
        f", win rate {found.rate:.1%}{interval}: {found.wins} better, {found.ties} equal, "
        f"{found.losses} worse"
    )


def _side(rows: Sequence[Result], name: str) -> list[Result]:
    found = select(rows, system=name)
    if not found and "@" in name:
        system, _, condition = name.rpartition("@")
        found = select(rows, system=system, condition=condition)
    if not found:
        names = dict.fromkeys(
            f"{r.system}@{r.condition}" if r.condition else r.system for r in rows
        )
        raise DataError(f"no results of {name!r}; there are {', '.join(names)}")
    conditions = list(dict.fromkeys(row.condition for row in found))
    if len(conditions) > 1:
        raise ConfigError(f"{name}: say which reward, as {name}@{conditions[0]}")
    return found


def correlation_lines(
    rows: Sequence[Result], others: Sequence[Result], bootstrap: Bootstrap | None = None
) -> list[str]:
    """How two judges agree: a line a metric, below it one a system, and how each ranks these.

    Raises:
        DataError: if they share no metric, or too few edits.
    """
    lines, groups = [], []
    for row in _firsts(rows, "metric"):
        ours, theirs = select(rows, metric=row.metric), select(others, metric=row.metric)
        if not theirs:
            continue
        found = correlate(ours, theirs, bootstrap)
        groups.append(found.groups)
        same = "" if found.same_answer is None else f", same answer {found.same_answer:.1%}"
        between = f" {_range(found.difference_interval)}" if found.difference_interval else ""
        lines.append(
            f"{row.metric}: Spearman {_coefficient(found.spearman)}, Kendall "
            f"{_coefficient(found.kendall)}, Pearson {_coefficient(found.pearson)}, quadratic "
            f"kappa {_coefficient(found.kappa)}, mean difference {found.mean_difference:+.3f}"
            f"{between}{same}, {found.items} edits"
        )
        systems = correlate_systems(ours, theirs, bootstrap)
        for one in systems:
            value = one.correlation.spearman if one.correlation else Coefficient(None, None)
            lines.append(
                f"    {_system(one.system, one.condition)}: {one.first:.3f} against "
                f"{one.second:.3f}, Spearman {_coefficient(value)}"
            )
        lines += [
            f"    furthest apart: item {a.item} of {_system(a.system, a.condition)}, {a.value:g} "
            f"against {b.value:g}"
            for a, b in largest_differences(ours, theirs, _FURTHEST)
        ]
        if len(systems) > 1:
            first, second = zip(*pair_edits(ours, theirs), strict=True)
            lines += [_ranking("first", first, bootstrap), _ranking("second", second, bootstrap)]
    if not lines:
        raise DataError("the two judges share no metric")
    return lines + _note(groups)


def _ranking(which: str, rows: Sequence[Result], bootstrap: Bootstrap | None) -> str:
    """One judge's order of the systems, with the ranks of the interval."""
    found = rank_systems(rows, bootstrap)
    by = f"the {which} judge, {rows[0].measure}"
    return f"    ranking by {by}: {', '.join(_place(one) for one in found)}"


def _place(one: Ranked) -> str:
    low, high = one.ranks
    between = f"{low}" if low == high else f"{low} to {high}"
    return f"{one.rank}. {_system(one.system, one.condition)} [{between}]"


def reliability_lines(
    ratings: Sequence[Rating],
    rows: Sequence[Result] = (),
    bootstrap: Bootstrap | None = None,
) -> list[str]:
    """A line for every perspective of how people agree.

    Args:
        ratings: scores in any perspectives.
        rows: results of the same items, which know the photo of each.

    Raises:
        DataError: if no edit is scored by two people.
    """
    groups = {row.item: row.group for row in rows}
    items = {one.item for one in ratings}
    lines = []
    for metric in sorted({one.perspective for one in ratings}, key=rank):
        of = [one for one in ratings if one.perspective == metric]
        found = reliability(of, groups, bootstrap)
        lines.append(
            f"{metric}: Krippendorff's alpha {_coefficient(found.ordinal)} (ordinal), "
            f"{_coefficient(found.interval)} (interval); Cohen's quadratic kappa "
            f"{_coefficient(found.kappa)}{' (mean of all pairs)' * (found.annotators > 2)}; "
            f"{found.annotators} annotators, {found.edits} edits"
        )
    if items - groups.keys():
        lines.append("Intervals are over items; with results of these, they are over photos.")
    return lines + _note([len({groups.get(item, item) for item in items})])


def consistency_lines(runs: Sequence[Sequence[Result]]) -> list[str]:
    """A line for every metric of what one judge says when it is asked again.

    Raises:
        DataError: if no edit is scored in every run.
    """
    lines = []
    for row in _firsts(runs[0], "metric"):
        found = self_consistency([select(run, metric=row.metric) for run in runs])
        accuracy = (
            "" if found.accuracy_spread is None else f", accuracy {found.accuracy_spread:.1%}"
        )
        lines.append(
            f"{row.metric}: the means of {found.runs} runs differ by {found.mean_spread:.3f}"
            f"{accuracy}; deviation of an item {found.item_deviation:.3f}, same score in all runs "
            f"{found.same_score:.1%}, {found.items} edits"
        )
    return lines


def _all_series(rows: Sequence[Result]) -> Iterator[tuple[str, str, list[Result]]]:
    """Every system's rows in every metric, by whom they are judged, with what to call them."""
    fields = ("suite", "system", "condition", "people", "metric")
    series: dict[tuple[str | bool, ...], list[Result]] = {}
    for row in rows:
        series.setdefault(tuple(getattr(row, name) for name in fields), []).append(row)
    for row in _firsts(rows, *fields):
        name = " ".join(part for part in (row.suite, row.system, row.condition) if part)
        key = tuple(getattr(row, name) for name in fields)
        yield name + _PEOPLE * row.people, row.metric, series[key]


_PEOPLE = " (people)"
_FURTHEST = 3  # edits that two judges see most differently


def _firsts(rows: Sequence[Result], *names: str) -> list[Result]:
    """The first row of every combination of these fields; of the last, the known ones first.

    Judges answer in no order, and a reader wants always the same.
    """
    found: dict[tuple[str, ...], Result] = {}
    groups: dict[tuple[str, ...], int] = {}
    for row in rows:
        key = tuple(getattr(row, name) for name in names)
        groups.setdefault(key[:-1], len(groups))
        found.setdefault(key, row)
    ordered = sorted(found, key=lambda key: (groups[key[:-1]], rank(key[-1])))
    return [found[key] for key in ordered]


def _summary(series: Sequence[Result], bootstrap: Bootstrap | None, groups: list[int]) -> str:
    """The numbers of one series; `groups` takes how many it has, if there are intervals."""
    found = summarize(series, bootstrap)
    if found.mean is None:
        return f"no value ({found.coverage})"
    if bootstrap is not None:
        groups.append(found.groups)
    parts = [f"{found.mean:.4g}"]
    parts += [_range(found.interval)] if found.interval else []
    if found.accuracy is not None:
        parts.append(f"accuracy {found.accuracy:.1%}")
        if (share := found.accuracy_interval) is not None:
            parts.append(f"[{100 * share.low:.1f}, {100 * share.high:.1f}]")
    return f"{' '.join(parts)} ({found.coverage})"


def _system(system: str, condition: str) -> str:
    return f"{system}@{condition}" if condition else system


def _note(groups: Sequence[int]) -> list[str]:
    note = few_groups_note(groups)
    return [note] if note else []


def _range(interval: Interval) -> str:
    ends = interval.low, interval.high
    least = 1e-4 * (interval.high - interval.low)  # of an end at a bound is left 1e-9
    low, high = (end if abs(end) > least else 0.0 for end in ends)
    return f"[{low:.3g}, {high:.3g}]"


def _coefficient(found: Coefficient) -> str:
    if found.value is None:
        return "undefined"
    return f"{found.value:.3f}" + (f" {_range(found.interval)}" if found.interval else "")
