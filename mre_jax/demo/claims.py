"""What the demo claims, as differences that it measures."""

import dataclasses
from collections.abc import Sequence

from mre_jax.demo.scored import scored
from mre_jax.demo.systems import BASELINE, BEST, GUIDED, REWARD, WORST
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import Difference, compare
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.reward.scores import PERSPECTIVES


@dataclasses.dataclass(frozen=True)
class Claim:
    """A difference of mean scores, and what is claimed of it.

    Attributes:
        text: the claim.
        found: the first less the second, with its interval.
        above: the whole interval must lie above zero; otherwise it must not lie below.
    """

    text: str
    found: Difference
    above: bool = True

    @property
    def holds(self) -> bool:
        """Whether it was found true."""
        interval = self.found.interval
        return interval.low > 0 if self.above else interval.high >= 0

    def __str__(self) -> str:
        mark = "holds" if self.holds else "FAILS"
        low, high = self.found.interval.low, self.found.interval.high
        return f"{mark}  {self.text:<41} {self.found.mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def measure_claims(rows: Sequence[Result]) -> list[Claim]:
    """The claims, each with a paired bootstrap interval clustered by picture.

    The reward works: asked for 5,5,5 the editor scores higher than asked for 0,0,0. It pays: it
    scores higher than the editor trained without rewards. Both in every perspective. Reward
    guidance pays: it scores higher than 5,5,5 alone in one perspective or more, and lower in none.
    """
    reward = {metric: scored(rows, REWARD, BEST, metric) for metric in PERSPECTIVES}
    found = []
    for others, condition, name in ((REWARD, WORST, WORST), (BASELINE, "", "no reward")):
        for metric, best in reward.items():
            less = _compare(best, scored(rows, others, condition, metric))
            found.append(Claim(f"{metric}: {BEST} above {name}", less))
    gains = {
        metric: _compare(scored(rows, GUIDED, BEST, metric), best)
        for metric, best in reward.items()
    }
    surest = max(gains, key=lambda metric: gains[metric].interval.low)
    found.append(Claim(f"guidance above {BEST} alone in {surest}", gains[surest]))
    found += [
        Claim(f"{metric}: guidance not below {BEST}", gain, above=False)
        for metric, gain in gains.items()
    ]
    return found


def _compare(first: list[Result], second: list[Result]) -> Difference:
    return compare(first, second, Bootstrap())
