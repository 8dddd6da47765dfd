"""People as a judge: an edit's score is the mean of its annotators' scores, from a table."""

import collections
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mre_jax.errors import DataError
from mre_jax.judges.judge import DirectJudge
from mre_jax.judges.others.ratings import Rating, read_ratings
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict


class HumanJudge(DirectJudge):
    """Answers by system, item and perspective.

    What each annotator gave is recorded beside the mean, as "annotators". The yes or no is that of
    more than half of them, if all gave one. A table without systems holds the scores of one,
    whichever is judged.

    Args:
        path: file that `read_ratings` reads.

    Raises:
        DataError: as `read_ratings`.
    """

    def __init__(self, path: str):
        self._path = path
        self._ratings: dict[tuple[str, ...], list[Rating]] = collections.defaultdict(list)
        for rating in read_ratings(path):
            self._ratings[rating.edit].append(rating)
        self._systems = list(dict.fromkeys(system for system, _, _ in self._ratings))
        self._perspectives = list(dict.fromkeys(name for _, _, name in self._ratings))
        self._judged: str | None = None

    @property
    def name(self) -> str:
        return f"human:{self._path}"

    @property
    def settings(self) -> Mapping[str, Any]:
        # Two systems may make the same picture, and yet each has the score that people gave it.
        rows = json.dumps(
            [vars(one) for key in sorted(self._ratings) for one in self._ratings[key]]
        )
        return {"human": hashlib.sha256(rows.encode()).hexdigest(), "judged": self._judged}

    def judging(self, system: str, condition: str) -> str:
        """Turns to the edits of a system, and of a reward that it was asked for.

        Returns:
            whose scores are taken, in a sentence for the user.

        Raises:
            DataError: naming the systems that the table has, if this one is none of them; or if a
                table without systems is asked about a second one.
        """
        name = f"{system}@{condition}" if condition else system
        if self._systems == [""]:
            if self._judged not in (None, name):
                raise DataError(
                    f"{self._path}: no column 'system', and it cannot be {self._judged} and "
                    f"{name} that it scores; add the column"
                )
        elif name not in self._systems:
            raise DataError(
                f"{self._path}: no scores of {name!r}; it has {', '.join(self._systems)}"
            )
        self._judged = name
        column = " (it has no column 'system')" if self._systems == [""] else ""
        return f"{self._path}: people's scores of {name}{column}"

    async def ask(self, question: Question) -> Verdict:
        """The mean of the scores in the table, or "missing".

        Raises:
            DataError: if a score is out of the prompt's range; or if the table has several systems
                and nobody has said whose edits are judged.
        """
        perspective = question.perspective.lower()
        ratings = self._ratings.get((self._system(), question.item, perspective), [])
        if not ratings:
            text = self._absent(perspective)
            return self.verdict(question, "missing", text=text, people=True)
        self._check_range(ratings, question)
        score = float(np.mean([rating.score for rating in ratings]))
        said = {one.annotator: one.score for one in ratings if one.annotator}
        return self.verdict(
            question,
            "ok",
            used={**self.settings, **({"annotators": said} if said else {})},
            score=int(score) if score.is_integer() else score,
            passed=_majority(ratings) if question.prompt.answer.passed else None,
            text="; ".join(_said(rating) for rating in ratings if rating.text),
            model=", ".join(dict.fromkeys(rating.model for rating in ratings)),
            people=True,
        )

    def _system(self) -> str:
        if self._systems == [""]:
            return ""
        if self._judged is None:
            raise DataError(f"{self._path}: scores of {', '.join(self._systems)}; say whose")
        return self._judged

    def _absent(self, perspective: str) -> str:
        if perspective not in self._perspectives:
            return f"not in {self._path}, which has scores of {', '.join(self._perspectives)}"
        _, item, _ = next(iter(self._ratings))
        return f"not in {self._path}, where an item is called {item!r}"

    def _check_range(self, ratings: Sequence[Rating], question: Question) -> None:
        answer = question.prompt.answer
        for rating in ratings:
            if not answer.low <= rating.score <= answer.high:
                raise DataError(
                    f"{self._path}: {rating.item!r}, {rating.perspective}: score {rating.score} is "
                    f"not in {answer.low} to {answer.high}"
                )


def _majority(ratings: Sequence[Rating]) -> bool | None:
    answers = [rating.passed for rating in ratings]
    return None if None in answers else 2 * answers.count(True) > len(answers)


def _said(rating: Rating) -> str:
    return f"{rating.annotator}: {rating.text}" if rating.annotator else rating.text
