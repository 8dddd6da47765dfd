"""Best of n: several edits of each item, of which a judge picks one before they are evaluated.

OUT/edits/SUITE/NAME/            the edits of --seed, which are those of no picking
OUT/edits/SUITE/NAME-seed-7/     those of another seed, and so on
OUT/best-of.jsonl                what the judge that picks has said
"""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mre_jax.errors import BusyError, ConfigError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED
from mre_jax.evaluation.questions import ask_about
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import PromptPack
from mre_jax.judges.spec import JudgeSpec, Option
from mre_jax.judges.verdict import Verdict

JOURNAL = "best-of.jsonl"


@dataclasses.dataclass(frozen=True)
class BestOf:
    """How many edits of an item are made, and who picks one of them.

    Attributes:
        count: edits of each item that --model makes, of as many seeds from --seed on; a judge picks
            the one with the best mean score.
        judge: who picks; by default who judges. It has the prompts, pictures and limits of
            --judge, and a ceiling of the same --max-usd to itself.
        options: setting of that judge, as noise=0.8 of toy; may be repeated.

    Raises:
        ConfigError: if there is nothing to pick from, or only a judge's setting is given.
    """

    count: int = dataclasses.field(default=1, metadata={"flag": "--best-of", "metavar": "N"})
    judge: str = dataclasses.field(
        default="", metadata={"flag": "--best-of-judge", "metavar": "KIND[:NAME]"}
    )
    options: dict[str, Option] = dataclasses.field(
        default_factory=dict, metadata={"flag": "--best-of-option"}
    )

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"--best-of {self.count}: want 1 or more")
        if self.options and not self.judge:
            raise ConfigError("--best-of-option is of a --best-of-judge; name one")
        if self.judge and self.count == 1:
            raise ConfigError(f"--best-of-judge {self.judge}: nothing to pick; give --best-of N")

    def spec(self, judge: JudgeSpec) -> JudgeSpec:
        """The judge that picks, where `judge` evaluates."""
        if not self.judge:
            return judge
        return dataclasses.replace(judge, name=self.judge, options=self.options)

    def recorded(self, judge: Judge) -> dict[str, Any]:
        """What rows of results say of the picking: "best_of" and "best_of_judge"."""
        settings = json.dumps(dict(judge.settings), sort_keys=True)
        return {"best_of": self.count, "best_of_judge": f"{judge.name} {settings}"}


def pick_best(
    candidates: Sequence[Mapping[str, Path]],
    cases: Sequence[Case],
    *,
    judge: Judge,
    pack: PromptPack,
    journal: Journal,
    pictures: str = AS_EDITED,
    concurrency: int = 8,
    budget: Budget | None = None,
) -> dict[str, Path]:
    """The edit of each case with the best mean score over the perspectives of a pack.

    The first of equal ones. An edit that the judge gives no score is not picked, unless it gives
    none of the case's edits one; then the first is.

    Args:
        candidates: edited pictures by case id, for each seed.
        cases: those with an edit in any of them count.
        judge: who picks; its connections are closed afterwards.
        pictures: way to send them; see `sent_pictures`.

    Raises:
        ConfigError: if people are to pick, or the budget does not suffice.
        BusyError: if some questions had no answer.
        MreError: as `judges.asking.run_all`.
    """
    if isinstance(judge, HumanJudge):
        raise ConfigError("people cannot pick the best of edits that are being made; name a judge")
    scores: dict[str, dict[str, float]] = {}
    statuses: Counter[str] = Counter()

    def take(verdict: Verdict) -> None:
        statuses[verdict.status] += 1
        if verdict.score is not None:
            scores.setdefault(verdict.item, {})[verdict.perspective] = float(verdict.score)

    def name(number: int, case: Case) -> str:
        return f"{case.id} ({number})"

    questions = (
        dataclasses.replace(question, item=name(number, case))
        for number, edited in enumerate(candidates)
        for case in cases
        if case.id in edited
        for question in ask_about([case], edited, pack, pictures)
    )
    run_all(judge, questions, journal, take, concurrency=concurrency, budget=budget)
    if stopped := statuses["budget_stopped"]:
        raise ConfigError(f"--max-usd: {stopped} scores to pick by are not covered; give more")
    if failed := statuses["http_error"]:
        raise BusyError(f"{failed} scores to pick by had no answer; run it again to ask once more")

    def worth(number: int, case: Case) -> float:
        found = scores.get(name(number, case), {})
        return fmean(found.values()) if len(found) == len(pack.perspectives) else -1.0

    picked = {}
    for case in cases:
        there = [number for number, edited in enumerate(candidates) if case.id in edited]
        if there:
            best = max(there, key=lambda number: worth(number, case))
            picked[case.id] = candidates[best][case.id]
    return picked
