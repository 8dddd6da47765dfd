"""What the paper claims, as differences that the demo measures."""

import dataclasses
from collections.abc import Sequence

from mre_jax.demo.systems import BASELINE, BEST, FILTERED, REWARD
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import Difference, compare
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.reward.scores import PERSPECTIVES

WORST = "0,0,0"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A difference of mean scores, and what is claimed of it, if anything.

    Attributes:
        text: the claim.
        found: the first less the second, with its interval.
        above: the whole interval must lie above zero.
        not_below: it must not lie below zero.
    """

    text: str
    found: Difference
    above: bool = False
    not_below: bool = False

    @property
    def holds(self) -> bool:
        """Whether it was found true."""
        interval = self.found.interval
        fails_above = self.above and interval.low <= 0
        return not (fails_above or (self.not_below and interval.high < 0))

    def __str__(self) -> str:
        mark = "FAILS" if not self.holds else "holds" if self.above or self.not_below else ""
        low, high = self.found.interval.low, self.found.interval.high
        return f"{mark:<5}  {self.text:<52} {self.found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def measure_claims(rows: Sequence[Result]) -> list[Claim]:
    """The claims, each with a paired bootstrap interval clustered by picture.

    The reward works: asked for 5,5,5 the editor scores higher than asked for 0,0,0, in every
    perspective. It pays: at 5,5,5 it preserves more, at higher quality, than the editor trained
    without rewards, and follows no less.
    """
    claims = []
    for metric in PERSPECTIVES:
        best = _series(rows, REWARD, BEST, metric)
        worst = _series(rows, REWARD, WORST, metric)
        without = _series(rows, BASELINE, "", metric)
        strict = metric != "following"
        relation = "above" if strict else "not below"
        claims += [
            Claim(f"{metric}: asked 5,5,5 above asked 0,0,0", _compare(best, worst), above=True),
            Claim(
                f"{metric}: asked 5,5,5 {relation} no reward",
                _compare(best, without),
                above=strict,
                not_below=not strict,
            ),
        ]
    return sorted(claims, key=lambda claim: claim.text.endswith("reward"))


def measure_filtering(rows: Sequence[Result]) -> list[Claim]:
    """Conditioning less filtering, of which nothing is claimed; empty if nothing was filtered."""
    found = []
    for metric in PERSPECTIVES:
        best = _series(rows, REWARD, BEST, metric)
        if filtered := _series(rows, FILTERED, "", metric):
            text = f"{metric}: asked 5,5,5 less filtered"
            found.append(Claim(text, _compare(best, filtered)))
    return found


def _compare(first: list[Result], second: list[Result]) -> Difference:
    return compare(first, second, Bootstrap())


def _series(rows: Sequence[Result], system: str, condition: str, metric: str) -> list[Result]:
    wanted = (system, condition, metric, "real-edit")
    return [r for r in rows if (r.system, r.condition, r.metric, r.suite) == wanted]
