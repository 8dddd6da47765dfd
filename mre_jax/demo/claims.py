"""What the paper claims, as differences that the demo measures."""

import dataclasses
from collections.abc import Sequence

from mre_jax.demo.systems import BASELINE, BEST, REWARD
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics import Bootstrap, Difference, compare
from mre_jax.models.reward_config import PERSPECTIVES

WORST = "0,0,0"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A difference of mean scores, and what is claimed of it.

    Attributes:
        text: the claim.
        found: the first less the second, with its interval.
        strict: the whole interval must lie above zero; else it must not lie below it.
    """

    text: str
    found: Difference
    strict: bool

    @property
    def holds(self) -> bool:
        """Whether it was found true."""
        interval = self.found.interval
        return interval.low > 0 if self.strict else interval.high >= 0

    def __str__(self) -> str:
        mark = "holds" if self.holds else "FAILS"
        low, high = self.found.interval.low, self.found.interval.high
        return f"{mark}  {self.text:<52} {self.found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


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
            Claim(f"{metric}: asked 5,5,5 above asked 0,0,0", _compare(best, worst), True),
            Claim(f"{metric}: asked 5,5,5 {relation} no reward", _compare(best, without), strict),
        ]
    return sorted(claims, key=lambda claim: claim.text.endswith("reward"))


def _compare(first: list[Result], second: list[Result]) -> Difference:
    return compare(first, second, Bootstrap())


def _series(rows: Sequence[Result], system: str, condition: str, metric: str) -> list[Result]:
    wanted = (system, condition, metric, "real-edit")
    return [r for r in rows if (r.system, r.condition, r.metric, r.suite) == wanted]
