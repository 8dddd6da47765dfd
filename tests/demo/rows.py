"""Results of a benchmark of four pictures with two instructions each."""

from mre_jax.evaluation.results import Result
from mre_jax.reward.scores import PERSPECTIVES


def rows(system: str, condition: str, value: float) -> list[Result]:
    """Rows of one editor whose mean score is `value` in every perspective."""
    return [
        Result(
            system=system,
            condition=condition,
            suite="real-edit",
            item=f"{group}-{number}",
            group=f"{group}",
            kind=("Local", "Style")[number],
            metric=metric,
            value=value * (1 + 0.01 * (group - 1.5)),
            measure="toy-1",
        )
        for group in range(4)
        for number in range(2)
        for metric in PERSPECTIVES
    ]
