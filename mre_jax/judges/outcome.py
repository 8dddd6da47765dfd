"""What the answers of a run come to: whether it is worth going on, and how it ends."""

from collections import Counter

from mre_jax.errors import BusyError, ConfigError, DataError, MreError
from mre_jax.judges.verdict import Verdict

FIRST = 10
"""So many answers without a score, and none with one, end a run: the others would be the same."""


class Outcome:
    """Counts verdicts.

    Attributes:
        statuses: verdicts by status.
    """

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._last: dict[str, Verdict] = {}

    def add(self, verdict: Verdict, *, known: bool = False) -> None:
        """Counts one; `known` of those that were not asked for just now."""
        self.statuses[verdict.status] += 1
        if not known:
            self._asked[verdict.status] += 1
        self._last[verdict.status] = verdict

    def check_first(self) -> None:
        """Raises what `failure` gives if the first answers were none."""
        if not self.statuses["ok"] and self._asked.total() >= FIRST:
            raise self._failure(
                f"none of the first {self._asked.total()} answers has a score", self._asked
            )

    def failure(self) -> MreError | None:
        """The error that a run ends with; None if all that was asked was answered in some way.

        `BusyError` where it may go away by itself, `ConfigError` where a setting, model or address
        must change, `DataError` where the judge declines or its file lacks the answer. Answers
        that are no scores are an error only if there is no score at all.
        """
        answers = self.statuses - Counter(budget_stopped=self.statuses["budget_stopped"])
        if answers and not answers["ok"]:
            return self._failure(f"none of {answers.total()} answers has a score", answers)
        if lost := answers["http_error"]:
            return BusyError(f"{lost} questions have no answer; run it again to ask them once more")
        if lost := answers["missing"]:
            return DataError(f"{lost} questions are not answered in the judge's file")
        return None

    def _failure(self, said: str, counts: Counter[str]) -> MreError:
        status = counts.most_common(1)[0][0]
        last = self._last[status]
        many = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        text = f"{said} ({many}); the last {status}: {_shown(last)}"
        if status == "missing":
            return DataError(f"{text}; give the file that has them")
        if status == "http_error":
            return BusyError(f"{text}; check base_url, and run it again when that is over")
        if status in ("refused", "content_filter"):
            return DataError(f"{text}; take another judge, or run it again to ask the rest")
        cure = {
            "truncated": "give --judge-option max_tokens=N with more than "
            f"{last.settings.get('max_tokens', 'now')}",
            "rejected": "mend that, then run it with --again rejected",
        }.get(status, "try --judge-option form=auto, or another model, and --again invalid")
        return ConfigError(f"{text}; {cure}")


def _shown(verdict: Verdict) -> str:
    raw = f", of {verdict.raw[:120]!r}" if verdict.raw else ""
    return f"{verdict.text[:200]}{raw}"
