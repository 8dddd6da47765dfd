"""What an annotator of the toy world would say with each score: the text of a reward asked for.

In training a low score never comes without words. Asked for without them, it would be a reward that
the editor has not seen.
"""

from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld.corruption import FEEDBACK, GRADES

_TYPICAL = ("partial", "stray", "noise")
_WORST = ("missing", "stray", "noise")  # of score 0: nothing is less incomplete than that


def words_by_score() -> dict[str, dict[str, str]]:
    """Sentences by perspective and score, 0 to 4, as `mre evaluate --reward-words` reads them."""
    return {
        name: {
            str(score): said[kind if score else worst].format(grade)
            for score, grade in enumerate(GRADES)
        }
        for name, said, kind, worst in zip(PERSPECTIVES, FEEDBACK, _TYPICAL, _WORST, strict=True)
    }
