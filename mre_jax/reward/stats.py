"""Counts over rewards: how many have each score, and the words that name flaws (Figs. 3 and 4)."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES
from mre_jax.reward.text import reward_parts

_WORD = re.compile(r"[^\W\d_][\w'-]+")
# Words that would fill every cloud and say nothing.
_COMMON = frozenset(
    """
    a an and any are as at be been being but by can could did does doing for from had has have her
    his in into is it its more most no none not of on onto or over should so some such than that
    the their them then there these they this those to too under very was were what when where
    which while who with would
    """.split()  # noqa: SIM905 (a text, to be read)
)


@dataclasses.dataclass
class RewardStats:
    """Counts over rewards.

    Attributes:
        judged: examples with scores.
        scores: per perspective, how many have each score from 0 to 5, rounded.
        below_top: per perspective, how many have less than the top score.
        words: per perspective, the words of the texts that name a flaw.

    Example:
        >>> stats = RewardStats()
        >>> stats.add_reward((5, 3, 5), ("None", "The sky is darker.", "None"))
        >>> stats.below_top["preserving"], sorted(stats.words["preserving"])
        (1, ['darker', 'sky'])
    """

    judged: int = 0
    scores: dict[str, list[int]] = dataclasses.field(
        default_factory=lambda: {name: [0] * (MAX_SCORE + 1) for name in PERSPECTIVES}
    )
    below_top: dict[str, int] = dataclasses.field(
        default_factory=lambda: dict.fromkeys(PERSPECTIVES, 0)
    )
    words: dict[str, Counter[str]] = dataclasses.field(
        default_factory=lambda: {name: Counter() for name in PERSPECTIVES}
    )

    def add_reward(self, scores: Sequence[float] | None, texts: Sequence[str] | None) -> None:
        """Counts one example.

        Args:
            scores: one for each of `PERSPECTIVES`, from 0 to 5; None if it has none.
            texts: likewise; those that name no flaw give no words, see `reward_parts`.
        """
        if scores is not None:
            self.judged += 1
            for name, score in zip(PERSPECTIVES, scores, strict=True):
                self.scores[name][round(score)] += 1
                self.below_top[name] += score < MAX_SCORE
        if texts is not None:
            for name, text in zip(PERSPECTIVES, reward_parts(texts, scores), strict=True):
                words = (word.lower() for word in _WORD.findall(text))
                self.words[name].update(word for word in words if word not in _COMMON)

    def score_lines(self) -> Iterator[str]:
        """A table for the terminal: the share of each score in each perspective."""
        yield "score       " + "".join(f"{n:>8}" for n in range(MAX_SCORE + 1)) + "  below 5"
        judged = max(self.judged, 1)
        for name, counts in self.scores.items():
            shares = "".join(f"{count / judged:>8.1%}" for count in counts)
            yield f"{name:<12}{shares}{self.below_top[name] / judged:>9.1%}"
