"""Of the demo's results the rows of one mean."""

from collections.abc import Sequence

from mre_jax.evaluation.results import Result


def scored(rows: Sequence[Result], edits: str, condition: str, metric: str) -> list[Result]:
    """The edits of the benchmark by one editor.

    Args:
        edits: what they are called.
        condition: the reward that was asked for, "5,5,5"; "" of an editor that takes none.
        metric: the perspective that is scored.
    """
    wanted = (edits, condition, metric, "real-edit")
    return [r for r in rows if (r.system, r.condition, r.metric, r.suite) == wanted]
