"""Rows of results in the order of the questions, in whichever order the answers come."""

from collections import deque
from collections.abc import Hashable, Iterable

from mre_jax.evaluation.results import Result

TOGETHER = 16
"""So many rows are written at a time."""


class InOrder:
    """Rows that arrive in any order and leave in that of the questions.

    A row waits until all before it are there. What still waits when a run is broken off is in the
    journal, and comes from there when the run goes on.

    Example:
        >>> from mre_jax.evaluation.results import Result
        >>> edit = ("ours", "", "real-edit", "cat-1", "cat", "Local")
        >>> rows = InOrder(["following", "quality"])
        >>> rows.put("quality", Result(*edit, "quality", 4.0))
        >>> rows.take()
        []
        >>> rows.put("following", Result(*edit, "following", 3.0))
        >>> [row.metric for row in rows.take()]
        ['following', 'quality']

    Attributes:
        ready: rows that may leave.
    """

    def __init__(self, questions: Iterable[Hashable]):
        """Takes what names every question."""
        self._questions = deque(questions)
        self._early: dict[Hashable, Result] = {}
        self.ready: list[Result] = []

    def put(self, question: Hashable, row: Result) -> None:
        """Takes the row of a question."""
        self._early[question] = row
        while self._questions and self._questions[0] in self._early:
            self.ready.append(self._early.pop(self._questions.popleft()))

    def take(self) -> list[Result]:
        """Those that are ready, which leave."""
        taken, self.ready = self.ready, []
        return taken
