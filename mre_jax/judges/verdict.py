"""One answer of a judge, as a record."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Self

from mre_jax.errors import DataError

STATUSES = (
    "ok",
    "refused",
    "content_filter",
    "truncated",
    "invalid",
    "rejected",
    "http_error",
    "budget_stopped",
    "missing",
)
FINAL = ("ok", "refused", "content_filter", "truncated", "invalid", "rejected")
"""Statuses of an answer that was had, and is not asked for again."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a judge said to a question, or why it said nothing.

    Example:
        >>> verdict = Verdict("key", "item-1", "quality", "ok", score=4, text="a little blurred")
        >>> Verdict.from_json(verdict.to_json()) == verdict
        True

    Attributes:
        key: hash of the question and the judge's settings; `Judge.key`.
        item, perspective: item and perspective of the question.
        status: one of `STATUSES`; only with "ok" are there a score and, if asked for, a yes or no.
        score: a number in the range of the prompt.
        passed: True for yes; None where the prompt does not ask for it.
        text: what the judge says; without "ok", why there is no score.
        raw: the answer as it came, of the last request.
        model: the snapshot that answered, "toy-1" or "human"; "" if none did.
        prompt_hash: `Prompt.hash`.
        usage: tokens of all requests: "prompt_tokens", "completion_tokens".
        usd: cost of all requests in US dollars; one without an answer counts at its most.
        requests: number of requests that were sent.
        question: `Question.key`, which does not depend on the judge.
        repeat: `Question.repeat`.
        settings: what decided the answer, in plain values: `Judge.recorded`; {} in older journals.
        people: whether people gave the answer, and no model.

    Raises:
        DataError: if the status is unknown, or status and score do not fit together.
    """

    key: str
    item: str
    perspective: str
    status: str
    score: float | None = None
    passed: bool | None = None
    text: str = ""
    raw: str = ""
    model: str = ""
    prompt_hash: str = ""
    usage: Mapping[str, int] = dataclasses.field(default_factory=dict)
    usd: float = 0.0
    requests: int = 0
    question: str = ""
    repeat: int = 0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    people: bool = False

    def __post_init__(self) -> None:
        where = f"verdict of {self.item!r}, {self.perspective}"
        if self.status not in STATUSES:
            raise DataError(f"{where}: unknown status {self.status!r}")
        if (self.status == "ok") != (self.score is not None):
            raise DataError(f"{where}: status {self.status!r} with score {self.score!r}")
        if self.score is not None and not math.isfinite(self.score):
            raise DataError(f"{where}: score {self.score!r}")

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self), "usage": dict(self.usage), "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str = "verdict") -> Self:
        """The inverse of `to_json`.

        Raises:
            DataError: if a value is missing, unknown or of another kind; `where` names the record.
        """
        try:
            verdict = cls(**values)
        except TypeError:
            raise DataError(f"{where}: not a verdict: {json.dumps(values)[:80]}") from None
        for field in dataclasses.fields(cls):
            if not isinstance(getattr(verdict, field.name), _KINDS[field.name]):
                raise DataError(f"{where}: {field.name} is {getattr(verdict, field.name)!r:.40}")
        return verdict


_NUMBER = (int, float)
_KINDS: dict[str, Any] = {
    **dict.fromkeys((field.name for field in dataclasses.fields(Verdict)), str),
    "score": (*_NUMBER, type(None)),
    "passed": (bool, type(None)),
    "usage": dict,
    "settings": dict,
    "usd": _NUMBER,
    "requests": int,
    "repeat": int,
    "people": bool,
}
