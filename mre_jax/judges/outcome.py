"""What the answers of a run come to: whether it is worth going on, and how it ends."""

from collections import Counter, defaultdict

from mre_jax.errors import BusyError, ConfigError, DataError, MreError
from mre_jax.judges.verdict import Verdict

FIRST = 10
"""So many answers without a score, and none with one, end a run: the others would be the same."""


class Outcome:
    """Counts answers by status, of verdicts or of rows that were made of them.

    Example:
        >>> outcome = Outcome()
        >>> outcome.count("following", "ok", "")
        >>> outcome.count("quality", "invalid", "no score")
        >>> print(outcome.failure())
        quality: none of 1 answers has a score (1 invalid); the last invalid: no score; try ...

    Attributes:
        statuses: answers by status.
    """

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._of: dict[str, Counter[str]] = defaultdict(Counter)  # by series
        self._last: dict[tuple[str, str], tuple[str, object]] = {}  # by series, "" for any; status

    def add(self, verdict: Verdict, *, known: bool = False) -> None:
        """Counts a verdict; `known` of those that were not asked for just now."""
        raw = f", of {verdict.raw[:120]!r}" if verdict.raw else ""
        self.count(
            verdict.perspective,
            verdict.status,
            f"{verdict.text[:200]}{raw}",
            known=known,
            max_tokens=verdict.settings.get("max_tokens", "now"),
        )

    def count(
        self,
        series: str,
        status: str,
        reason: str,
        *,
        known: bool = False,
        max_tokens: object = "now",
    ) -> None:
        """Counts an answer.

        Args:
            series: what must have a score each: a perspective; or system, condition and metric.
            status: `Verdict.status`.
            reason: why there is no score, as it is shown.
            known: whether it was not asked for just now.
            max_tokens: what the answer had of them.
        """
        self.statuses[status] += 1
        self._asked[status] += not known
        self._of[series][status] += 1
        for whose in ("", series):
            self._last[whose, status] = reason, max_tokens

    def check_first(self) -> None:
        """Raises what `failure` gives if the first answers were none."""
        if not self.statuses["ok"] and self._asked.total() >= FIRST:
            raise self._failure(
                f"none of the first {self._asked.total()} answers has a score", +self._asked
            )

    def failure(self, *, may_miss: bool = False) -> MreError | None:
        """The error that a run ends with; None if all that was asked was answered in some way.

        Args:
            may_miss: take what a judge's file answers, be it a part of the questions only.

        `BusyError` where it may go away by itself, `ConfigError` where a setting, model or address
        must change, `DataError` where the judge declines or its file lacks the answer. Answers
        without a score are an error only if there is none at all, or none in a series.
        """
        for whose, statuses in [("", self.statuses), *self._of.items()]:
            answers = statuses - Counter(budget_stopped=statuses["budget_stopped"])
            if answers and not answers["ok"]:
                said = f"none of {answers.total()} answers has a score"
                return self._failure(f"{whose}: {said}" if whose else said, answers, whose)
        if lost := self.statuses["http_error"]:
            return BusyError(f"{lost} questions have no answer; run it again to ask them once more")
        if not may_miss and (lost := self.statuses["missing"]):
            return DataError(f"{lost} questions are not answered in the judge's file")
        return None

    def _failure(self, said: str, counts: Counter[str], whose: str = "") -> MreError:
        status = counts.most_common(1)[0][0]
        reason, max_tokens = self._last[whose, status]
        many = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        text = f"{said} ({many}); the last {status}: {reason}"
        if status == "missing":
            return DataError(f"{text}; give the file that has them")
        if status == "http_error":
            return BusyError(f"{text}; check base_url, and run it again when that is over")
        if status in ("refused", "content_filter"):
            return DataError(f"{text}; take another judge, or run it again to ask the rest")
        cure = {
            "truncated": f"give --judge-option max_tokens=N with more than {max_tokens}",
            "rejected": "mend that, then run it with --again rejected",
        }.get(status, "try --judge-option form=auto, or another model, and --again invalid")
        return ConfigError(f"{text}; {cure}")
