"""Pairs of edits before a judge: questions out, result rows in.

Each pair is asked in both orders, by the loop and into the journal of all paid requests. The row of
an answer is that of the edit shown first.
"""

import dataclasses
import functools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, encode_edits
from mre_jax.evaluation.in_order import TOGETHER, InOrder
from mre_jax.evaluation.judging import provenance_of
from mre_jax.evaluation.pairs.pair import Pair
from mre_jax.evaluation.provenance import ORIGIN
from mre_jax.evaluation.questions import repeated
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.results_file import ResultsFile
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.packs.pack import PromptPack
from mre_jax.judges.picture import PictureIndex
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

Extras = Mapping[str, Mapping[str, Any]]
"""By item, what an exact judge needs; see `judges.question.Question`."""


def ask_about_pairs(
    pairs: Sequence[Pair],
    pack: PromptPack,
    pictures: str,
    index: PictureIndex | None = None,
    extras: Extras | None = None,
) -> Iterator[Question]:
    """A question for every pair, perspective and order; pictures are made ready as they are needed.

    The original is the same file in both orders, so that nothing but the order differs.

    Args:
        pictures: way to send them; see `sent_pictures`.
        index: what knows them by their hash before that.
    """
    index = PictureIndex() if index is None else index
    for pair in pairs:
        paths = pair.first.original, pair.first.edited, pair.second.edited
        original, first, second = index.pictures(
            [path.read_bytes() for path in paths],
            pictures,
            functools.partial(encode_edits, paths[0], paths[1:], pictures),
        )
        row = pair.first.row
        for perspective in pack.perspectives:
            for order, shown in ((pair, (first, second)), (pair.swapped, (second, first))):
                yield Question(
                    item=order.name,
                    perspective=perspective,
                    pack=pack,
                    instruction=row.instruction,
                    original=original,
                    edited=shown[0],
                    other=shown[1],
                    extra=(extras or {}).get(row.item, {}),
                    encoding=pictures,
                    kind=row.kind,
                )


def judge_pairs(
    pairs: Sequence[Pair],
    results: ResultsFile,
    *,
    judge: Judge,
    pack: PromptPack,
    journal: Journal,
    pictures: str = AS_EDITED,
    concurrency: int = 8,
    budget: Budget | None = None,
    again: Collection[str] = (),
    extras: Extras | None = None,
    repeat: int = 0,
) -> None:
    """Has every pair compared in both orders, and writes a row for each answer.

    Rows stand in the order of the pairs, in whichever order the answers come. Whatever the journal
    holds is not asked again.

    Args:
        pictures: way to send them; see `sent_pictures`.
        again: statuses that are asked again though they are final.
        repeat: number of a repetition, whose questions are asked anew.

    Raises:
        DataError: if the results hold answers of other settings; nothing is asked then.
        MreError: as `judges.asking.run_all`.
    """
    planned = provenance_of(judge, pack, pictures)
    orders = {order.name: order for pair in pairs for order in (pair, pair.swapped)}
    folder = results.path.parent

    def row(order: Pair, perspective: str, **fields: Any) -> Result:
        hash_ = pack.hash(perspective)
        return _row(order, folder, metric=perspective, prompt_hash=hash_, **fields)

    series = {(o.first.row.suite, o.first.side, o.second.side): o for o in orders.values()}
    results.check_settings(
        [
            row(order, name, provenance=planned, status="missing")
            for order in series.values()
            for name in pack.perspectives
        ]
    )
    rows = InOrder(
        (order.name, name)
        for pair in pairs
        for name in pack.perspectives
        for order in (pair, pair.swapped)
    )
    with (
        PictureIndex(journal.path) as index,
        tqdm(total=len(orders) * len(pack.perspectives), unit="answer", disable=None) as bar,
    ):

        def take(verdict: Verdict) -> None:
            made = row(orders[verdict.item], verdict.perspective, **_answered(verdict, planned))
            rows.put((verdict.item, verdict.perspective), made)
            if len(rows.ready) >= TOGETHER:
                results.add(rows.take())
            bar.update()

        try:
            run_all(
                judge,
                repeated(ask_about_pairs(pairs, pack, pictures, index, extras), repeat),
                journal,
                take,
                concurrency=concurrency,
                budget=budget,
                again=again,
            )
        finally:
            results.add(rows.take())


def _answered(verdict: Verdict, planned: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row that the answer gives."""
    return {
        "value": None if verdict.score is None else float(verdict.score),
        "status": verdict.status,
        "measure": verdict.model,
        "reason": verdict.text,
        "provenance": dict(verdict.settings or planned),
    }


def _row(order: Pair, folder: Path, provenance: Mapping[str, Any], **fields: Any) -> Result:
    """The row of the edit that is shown first."""
    first = order.first
    origin = {name: first.row.provenance[name] for name in ORIGIN if name in first.row.provenance}
    return dataclasses.replace(
        first.row,
        **{"value": None, "measure": "", "reason": "", **fields},
        passed=None,
        people=False,
        against=order.second.side,
        original=_relative(first.original, folder),
        edited=_relative(first.edited, folder),
        provenance={**provenance, **origin},
    )


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
