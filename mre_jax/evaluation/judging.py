"""Edits of a benchmark before a judge: questions out, result rows in."""

import io
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from mre_jax.evaluation.case import Case, Run
from mre_jax.evaluation.results import Result, ResultsFile
from mre_jax.image import read_image
from mre_jax.judges.asking import run_all
from mre_jax.judges.budget import Budget
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.picture import Encoding, parse_encoding
from mre_jax.judges.prompt_pack import PromptPack
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

AS_EDITED = "as-edited"
"""How pictures are sent: the edited file itself, and the original at its height."""

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
        pictures: `AS_EDITED`, or an encoding of `judges.picture`.
        again: statuses that are asked again though they are final.

    Raises:
        DataError: if the results hold scores of other settings; nothing is asked then.
        MreError: as `judges.asking.run_all`.
    """
    provenance = provenance_of(judge, pack, pictures)
    plan = {name: _missing(run, case, name, pack, provenance) for case in cases[:1] for name in pack.perspectives}
    results.check_settings(list(plan.values()))
    present = {case.id: case for case in cases if case.id in edited}
    rows = _InOrder((case.id, name) for case in cases for name in pack.perspectives)
    for case in cases:
        if case.id not in present:
            for perspective in pack.perspectives:
                rows.put(run.result(case, None, perspective, status="missing"))
    with tqdm(
        total=len(present) * len(pack.perspectives), unit="answer", desc=run.name, disable=None
    ) as bar:

        def take(verdict: Verdict) -> None:
            case = present[verdict.item]
            rows.put(_result(run, case, edited[case.id], verdict))
            if len(rows.ready) >= _TOGETHER:
                results.add(rows.take())
            bar.update()

        try:
            run_all(
                judge,
                ask_about(list(present.values()), edited, pack, pictures),
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


def check_pictures(pictures: str) -> str:
    """The way to send pictures, if it is one.

    Raises:
        ConfigError: if it is not.
    """
    return pictures if pictures == AS_EDITED else str(parse_encoding(pictures))


def ask_about(
    cases: Sequence[Case], edited: Mapping[str, Path], pack: PromptPack, pictures: str
) -> Iterator[Question]:
    """A question for every case and perspective; pictures are read as they are needed."""
    for case in cases:
        original, edit = encode_pair(case.original, edited[case.id], pictures)
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
            )


def encode_pair(original: Path, edited: Path, pictures: str) -> tuple[bytes, bytes]:
    """The files of original and edited picture as they are sent; see `judge_edits`.

    Raises:
        DataError: if one is no picture.
    """
    if pictures != AS_EDITED:
        encoding = parse_encoding(pictures)
        first, second = (encoding.encode(p.read_bytes(), str(p)) for p in (original, edited))
        return first, second
    height = read_image(edited).height
    before = read_image(original)
    as_is = Encoding()
    if before.height == height:
        first = as_is.encode(original.read_bytes(), str(original))
    else:
        width = max(1, round(before.width * height / before.height))
        first = _png(before.resize((width, height), Image.Resampling.LANCZOS))
    return first, as_is.encode(edited.read_bytes(), str(edited))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def provenance_of(judge: Judge, pack: PromptPack, pictures: str) -> dict[str, Any]:
    """What decides a judge's scores besides the edits; see `evaluation.provenance`."""
    return {"pack": pack.name, "pictures": pictures, **judge.settings}


def _missing(
    run: Run, cases: Sequence[Case], pack: PromptPack, provenance: Mapping[str, Any]
) -> list[Result]:
    """Rows of cases that have no picture."""
    return [
        run.result(
            case,
            None,
            perspective,
            status="missing",
            prompt_hash=pack.hash(perspective),
            provenance=provenance,
        )
        for case in cases
        for perspective in pack.perspectives
    ]


def _result(
    run: Run,
    case: Case,
    edited: Path,
    verdict: Verdict,
    pack: PromptPack,
    provenance: Mapping[str, Any],
) -> Result:
    return run.result(
        case,
        edited,
        verdict.perspective,
        value=None if verdict.score is None else float(verdict.score),
        passed=verdict.passed,
        status=verdict.status,
        measure=verdict.model,
        prompt_hash=pack.hash(verdict.perspective),
        reason=verdict.text,
        provenance=provenance,
    )
