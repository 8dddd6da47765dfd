"""The answers of a journal, without asking anybody."""

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import DataError
from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.judge import DirectJudge
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import FINAL, Verdict


class ReplayJudge(DirectJudge):
    """Answers the very questions, prompt, pictures and instruction, that a journal answers.

    Args:
        path: file of the journal.

    Raises:
        DataError: if it is missing, or two models have answered the same question in it.
    """

    def __init__(self, path: str):
        self._path = path
        self._verdicts: dict[str, Verdict] = {}
        for verdict in read_verdicts(path):
            if verdict.status not in FINAL:
                continue
            other = self._verdicts.get(verdict.question)
            if other is not None and other.model != verdict.model:
                raise DataError(
                    f"{path}: {other.model!r} and {verdict.model!r} both judge {verdict.item!r}, "
                    f"{verdict.perspective}; keep one journal a judge"
                )
            self._verdicts[verdict.question] = verdict

    @property
    def name(self) -> str:
        return f"replay:{self._path}"

    @functools.cached_property
    def settings(self) -> Mapping[str, Any]:
        keys = "".join(sorted(verdict.key for verdict in self._verdicts.values()))
        return {"replay": hashlib.sha256(keys.encode()).hexdigest()}

    async def ask(self, question: Question) -> Verdict:
        """The recorded answer, or "missing"."""
        found = self._verdicts.get(question.key)
        if found is None:
            return self.verdict(question, "missing", text=f"not in {self._path}")
        return self.verdict(
            question,
            found.status,
            score=found.score,
            passed=found.passed,
            text=found.text,
            raw=found.raw,
            model=found.model,
            settings=found.settings,
            people=found.people,
        )
