"""Statistics as lines of text, for the terminal."""

from collections.abc import Sequence

from mre_jax.data.rewards import PERSPECTIVES
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.statistics import (
    Bootstrap,
    Interval,
    compare,
    correlate,
    macro_mean,
    self_consistency,
    summarize,
    win_rate,
)
from mre_jax.toyworld.edits import TYPES


def summary_lines(
    rows: Sequence[Result], bootstrap: Bootstrap | None = None, *, types: bool = False
) -> list[str]:
    """A line of mean, accuracy and coverage for every metric of every system.

    Args:
        types: whether lines by type of instruction follow.
    """
    lines = []
    for row in _firsts(rows, "suite", "system", "condition", "metric"):
        series = select(
            rows, suite=row.suite, system=row.system, condition=row.condition, metric=row.metric
        )
        name = " ".join(part for part in (row.suite, row.system, row.condition) if part)
        lines.append(f"{name}: {row.metric} {_summary(series, bootstrap)}")
        kinds = sorted({item.kind for item in series if item.kind}, key=rank) if types else []
        for kind in kinds:
            lines.append(f"    {kind}: {_summary(select(series, kind=kind), bootstrap)}")
    return lines


def rank(name: str) -> tuple[int, str]:
    """What types and perspectives are sorted by: those of the paper as there, others by name."""
    known = (*TYPES, *PERSPECTIVES)
    return (known.index(name) if name in known else len(known)), name


def macro_lines(rows: Sequence[Result]) -> list[str]:
    """A line of the mean over the types of instruction for every metric of every system."""
    lines = []
    for row in _firsts(rows, "suite", "system", "condition", "metric"):
        series = select(
            rows, suite=row.suite, system=row.system, condition=row.condition, metric=row.metric
        )
        found = macro_mean(series)
        name = " ".join(part for part in (row.suite, row.system, row.condition) if part)
        value = "no value" if found.mean is None else f"{found.mean:.4g}"
        lines.append(
            f"{name}: {row.metric} {value}, mean of the means of {found.kinds} types "
            f"({found.coverage})"
        )
    return lines


def compare_lines(
    rows: Sequence[Result], first: str, second: str, bootstrap: Bootstrap
) -> list[str]:
    """A line of difference and win rate for every metric that both systems have.

    Args:
        first, second: "SYSTEM", or "SYSTEM@REWARD" if the system has several.

    Raises:
        DataError: if one of them has no results, or they share no metric.
    """
    sides = [_side(rows, name) for name in (first, second)]
    lines = []
    for row in _firsts(sides[0], "suite", "metric"):
        one, other = (select(side, suite=row.suite, metric=row.metric) for side in sides)
        if not other or len({item.group for item in one}) < 2:
            continue
        found = compare(one, other, bootstrap)
        wins = win_rate(one, other, bootstrap)
        lines.append(
            f"{row.suite}: {row.metric} {found.mean:+.3f} {_range(found.interval)}, "
            f"p {found.p:.4f}, {wins.wins} better, {wins.ties} equal, {wins.losses} worse of "
            f"{found.items} ({found.groups} groups, {found.unpaired} unpaired)"
        )
    if not lines:
        raise DataError(f"{first} and {second} share no metric of two groups or more")
    return lines


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


def correlation_lines(rows: Sequence[Result], others: Sequence[Result]) -> list[str]:
    """A line for every metric that two judges have scored the same edits in.

    Raises:
        DataError: if they share no metric, or too few edits.
    """
    lines = []
    for row in _firsts(rows, "metric"):
        theirs = select(others, metric=row.metric)
        if not theirs:
            continue
        found = correlate(select(rows, metric=row.metric), theirs)
        same = "" if found.same_answer is None else f", same answer {found.same_answer:.1%}"
        lines.append(
            f"{row.metric}: Spearman {_or_none(found.spearman)}, Pearson "
            f"{_or_none(found.pearson)}, mean difference {found.mean_difference:+.3f}{same}, "
            f"{found.items} edits"
        )
    if not lines:
        raise DataError("the two judges share no metric")
    return lines


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


def _summary(series: Sequence[Result], bootstrap: Bootstrap | None) -> str:
    found = summarize(series, bootstrap)
    if found.mean is None:
        return f"no value ({found.coverage})"
    parts = [f"{found.mean:.4g}"]
    parts += [_range(found.interval)] if found.interval else []
    if found.accuracy is not None:
        parts.append(f"accuracy {found.accuracy:.1%}")
    return f"{' '.join(parts)} ({found.coverage})"


def _range(interval: Interval) -> str:
    return f"[{interval.low:.3g}, {interval.high:.3g}]"


def _or_none(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
