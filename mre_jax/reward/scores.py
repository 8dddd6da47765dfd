"""The perspectives that an edit is judged in, and the scores that it gets."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from mre_jax.errors import DataError, MreError

PERSPECTIVES = ("following", "preserving", "quality")
"""In the order of every array of scores."""

MAX_SCORE = 5

BEST = (float(MAX_SCORE),) * len(PERSPECTIVES)
"""What an edit asks for."""

WORST = (0.0,) * len(PERSPECTIVES)

Scores: TypeAlias = tuple[float, ...]


def check_scores(
    scores: Any, where: str = "reward_scores", error: type[MreError] = DataError
) -> Scores:
    """The scores as a tuple; integers stay integers.

    Args:
        where: what an error calls them.
        error: its class.

    Raises:
        MreError: unless they are numbers from 0 to 5, one for each of `PERSPECTIVES`; names the
            perspective.

    Example:
        >>> check_scores([5, 3.5, 0])
        (5, 3.5, 0)
    """
    for name, score in zip(PERSPECTIVES, one_each(scores, "scores", where, error), strict=True):
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise error(f"{where}: {name}: score {score!r} is not a number")
        if not 0 <= score <= MAX_SCORE:  # nor is a score that is not finite
            raise error(f"{where}: {name}: score {score} is not in 0 to {MAX_SCORE}")
    return tuple(scores)


def one_each(
    values: Any, what: str, where: str, error: type[MreError] = DataError
) -> Sequence[Any]:
    """The values, one for each of `PERSPECTIVES`.

    Raises:
        MreError: if they are no list, or of another length.
    """
    count = len(PERSPECTIVES)
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        raise error(
            f"{where}: {what} {values!r:.60}: want {count} of them ({', '.join(PERSPECTIVES)})"
        )
    return values
