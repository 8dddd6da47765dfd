"""Edits of a benchmark before a judge: questions out, result rows in."""

import functools
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mre_jax.evaluation.case import Case, Run
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, encode_pair
from mre_jax.evaluation.results import Result, ResultsFile
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import PromptPack
from mre_jax.judges.picture import PictureIndex
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

_TOGETHER = 16  # verdicts that are written as rows at a time


def judge_edits(
    run: Run,
    cases: Sequence[Case],
    edited: Mapping[str, Path],
    results: ResultsFile,
    *,
    judge: Judge,
    pack: PromptPack,
    journal: Journal,
    pictures: str = AS_EDITED,
    concurrency: int = 8,
    budget: Budget | None = None,
    again: Collection[str] = (),
) -> None:
    """Has every edit judged in every perspective of the pack, and writes a row for each.

    Rows stand in the order of `cases`, in whichever order the answers come. Whatever the journal
    holds is not asked again. A case without a picture is "missing".

    Args:
        edited: pictures by case id.
        pictures: how they are sent; see `sent_pictures`.
        again: statuses that are asked again though they are final.

    Raises:
        DataError: if the results hold scores of other settings; nothing is asked then.
        MreError: as `judges.asking.run_all`.
    """
    people = isinstance(judge, HumanJudge)
    if isinstance(judge, HumanJudge):
        print(judge.judging(run.system, run.condition), file=sys.stderr)
    planned = provenance_of(judge, pack, pictures)
    missing = functools.partial(_missing, run, pack=pack, provenance=planned, people=people)
    results.check_settings(
        [missing(case, name) for case in cases[:1] for name in pack.perspectives]
    )
    present = {case.id: case for case in cases if case.id in edited}
    rows = _InOrder((case.id, name) for case in cases for name in pack.perspectives)
    for case in cases:
        if case.id not in present:
            for perspective in pack.perspectives:
                rows.put(missing(case, perspective))
    total = len(present) * len(pack.perspectives)
    with (
        PictureIndex(journal.path) as index,
        tqdm(total=total, unit="answer", desc=run.name, disable=None) as bar,
    ):

        def take(verdict: Verdict) -> None:
            case = present[verdict.item]
            hash_ = pack.hash(verdict.perspective)
            rows.put(_result(run, case, edited[case.id], verdict, hash_, planned))
            if len(rows.ready) >= _TOGETHER:
                results.add(rows.take())
            bar.update()

        try:
            run_all(
                judge,
                ask_about(list(present.values()), edited, pack, pictures, index),
                journal,
                take,
                concurrency=concurrency,
                budget=budget,
                again=again,
            )
        finally:
            results.add(rows.take())


class _InOrder:
    """Rows that arrive in any order and leave in that of the questions.

    A row waits until all before it are there. What still waits when a run is broken off is in the
    journal, and comes from there when the run goes on.

    Attributes:
        ready: rows that may leave.
    """

    def __init__(self, questions: Iterable[tuple[str, str]]):
        """Takes the item and perspective of every question."""
        self._questions = deque(questions)
        self._early: dict[tuple[str, str], Result] = {}
        self.ready: list[Result] = []

    def put(self, row: Result) -> None:
        self._early[row.item, row.metric] = row
        while self._questions and self._questions[0] in self._early:
            self.ready.append(self._early.pop(self._questions.popleft()))

    def take(self) -> list[Result]:
        """Those that are ready, which leave."""
        taken, self.ready = self.ready, []
        return taken


def ask_about(
    cases: Sequence[Case],
    edited: Mapping[str, Path],
    pack: PromptPack,
    pictures: str,
    index: PictureIndex | None = None,
) -> Iterator[Question]:
    """A question for every case and perspective; pictures are made ready as they are needed.

    Args:
        index: what knows them by their hash before that.
    """
    index = PictureIndex() if index is None else index
    for case in cases:
        paths = case.original, edited[case.id]
        original, edit = index.pictures(
            [path.read_bytes() for path in paths],
            pictures,
            functools.partial(encode_pair, *paths, pictures),
        )
        for perspective in pack.perspectives:
            yield Question(
                item=case.id,
                perspective=perspective,
                pack=pack,
                instruction=case.instruction,
                original=original,
                edited=edit,
                extra=case.extra,
                encoding=pictures,
                kind=case.kind,
            )


def provenance_of(judge: Judge, pack: PromptPack, pictures: str) -> dict[str, Any]:
    """What will decide a judge's scores besides the edits; see `evaluation.provenance`.

    What the judge finds out with its first requests ("auto") is left to the verdicts.
    """
    settings = {**judge.used, **judge.settings}
    known = {name: value for name, value in settings.items() if value != "auto"}
    return {**known, "pictures": pictures, "pack": pack.name}


def _missing(
    run: Run,
    case: Case,
    perspective: str,
    *,
    pack: PromptPack,
    provenance: Mapping[str, Any],
    people: bool,
) -> Result:
    """The row of a case that has no picture."""
    return run.result(
        case,
        None,
        perspective,
        status="missing",
        prompt_hash=pack.hash(perspective),
        provenance=provenance,
        people=people,
    )


def _result(
    run: Run,
    case: Case,
    edited: Path,
    verdict: Verdict,
    prompt_hash: str,
    planned: Mapping[str, Any],
) -> Result:
    """The row of a verdict; one from an old journal is known by its key to be as planned."""
    return run.result(
        case,
        edited,
        verdict.perspective,
        value=None if verdict.score is None else float(verdict.score),
        passed=verdict.passed,
        status=verdict.status,
        measure=verdict.model,
        prompt_hash=prompt_hash,
        reason=verdict.text,
        provenance=verdict.settings or planned,
        people=verdict.people,
    )
