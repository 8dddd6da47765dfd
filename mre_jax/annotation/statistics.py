"""What a judge's answers come to: histograms, coverage, and whether it agrees with itself."""

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator

from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.verdict import Verdict
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES


@dataclasses.dataclass
class Statistics:
    """Counts over verdicts; those of repetitions count for the agreement alone.

    Attributes:
        scores: per perspective, how many have each score, rounded.
        below_top: per perspective, how many have less than the top score.
        statuses: per perspective, verdicts by status.
        models: verdicts by the model that gave them.
        requests: sent for them.
        differences: per perspective, pairs of first and second answers by how far they are apart.
    """

    scores: dict[str, Counter[int]] = dataclasses.field(default_factory=dict)
    below_top: Counter[str] = dataclasses.field(default_factory=Counter)
    statuses: dict[str, Counter[str]] = dataclasses.field(default_factory=dict)
    models: Counter[str] = dataclasses.field(default_factory=Counter)
    requests: int = 0
    differences: dict[str, Counter[float]] = dataclasses.field(default_factory=dict)

    def add(self, verdict: Verdict) -> None:
        """Counts a verdict that is no repetition."""
        name = verdict.perspective
        self.statuses.setdefault(name, Counter())[verdict.status] += 1
        self.requests += verdict.requests
        if verdict.model:
            self.models[verdict.model] += 1
        if verdict.score is not None:
            self.scores.setdefault(name, Counter())[round(verdict.score)] += 1
            self.below_top[name] += verdict.score < MAX_SCORE

    def coverage(self, perspective: str) -> float:
        """Share of the verdicts with a score."""
        counts = self.statuses.get(perspective, Counter())
        return counts["ok"] / max(counts.total(), 1)

    def unlike_paper(self) -> list[str]:
        """Perspectives in which not more than half of the scores are below the top, unlike in the
        paper's set (Fig. 3)."""
        return [
            name
            for name, counts in sorted(self.scores.items(), key=lambda entry: _place(entry[0]))
            if name in PERSPECTIVES and self.below_top[name] * 2 <= counts.total()
        ]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield (
            "score       "
            + "".join(f"{score:>8}" for score in range(MAX_SCORE + 1))
            + ("  below 5  coverage")
        )
        for name, statuses in sorted(self.statuses.items(), key=lambda entry: _place(entry[0])):
            counts = self.scores.get(name, Counter())
            total = max(counts.total(), 1)
            shares = "".join(f"{counts[score] / total:>8.1%}" for score in range(MAX_SCORE + 1))
            below = self.below_top[name] / total
            yield f"{name:<12}{shares}{below:>9.1%}{self.coverage(name):>10.1%}"
            failed = {status: n for status, n in statuses.items() if status != "ok"}
            if failed:
                yield f"{name}: " + ", ".join(f"{n} {status}" for status, n in failed.items())
        for name, apart in sorted(self.differences.items(), key=lambda entry: _place(entry[0])):
            pairs = apart.total()
            mean = sum(gap * count for gap, count in apart.items()) / pairs
            yield (
                f"asked twice, {name}: {apart[0] / pairs:.1%} of {pairs} the same, "
                f"{mean:.2f} apart on average"
            )
        if unlike := self.unlike_paper():
            yield (
                f"note: in {', '.join(unlike)} not more than half of the scores are below 5; "
                "in the paper's set more are (Fig. 3)"
            )


def _place(perspective: str) -> tuple[int, str]:
    """What perspectives are sorted by."""
    known = PERSPECTIVES.index(perspective) if perspective in PERSPECTIVES else len(PERSPECTIVES)
    return known, perspective


def collect(journal: str | os.PathLike[str]) -> Statistics:
    """Counts the verdicts of a journal, also while it is written.

    Raises:
        DataError: if it is missing or damaged.
    """
    seconds = {
        (verdict.item, verdict.perspective): verdict.score
        for verdict in read_verdicts(journal)
        if verdict.repeat and verdict.score is not None
    }
    statistics = Statistics()
    for verdict in read_verdicts(journal):
        if verdict.repeat:
            statistics.requests += verdict.requests
            continue
        statistics.add(verdict)
        second = seconds.get((verdict.item, verdict.perspective))
        if verdict.score is not None and second is not None:
            apart = statistics.differences.setdefault(verdict.perspective, Counter())
            apart[round(abs(second - verdict.score), 3)] += 1
    return statistics
