"""The questions about the edits of cases, whoever asks them and why."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.sent_pictures import encode_pair
from mre_jax.judges.packs.pack import PromptPack
from mre_jax.judges.picture import PictureIndex
from mre_jax.judges.question import Question


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


def repeated(questions: Iterable[Question], repeat: int) -> Iterator[Question]:
    """The questions as they are asked for a further time; 0 for the first."""
    return (dataclasses.replace(question, repeat=repeat) for question in questions)
