"""The judges of the toy world: exact ones, and ones that err by a known amount."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mre_jax.errors import DataError
from mre_jax.io.image import decode_image
from mre_jax.judges.judge import DirectJudge
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld.corruption import GRADES, NO_FEEDBACK
from mre_jax.toyworld.edits import Edits
from mre_jax.toyworld.judge import score
from mre_jax.toyworld.misjudgement import Misjudgement
from mre_jax.toyworld.scene import Scenes

MODEL = "toy-1"
PASS = 4.0
"""The least score that is a yes."""

_FLAWS = ("The edit is {} off.", "The unedited parts are {} altered.", "The image is {} degraded.")
_KEPT = 64


class ToyJudge(DirectJudge):
    """Knows the scene and the edit, and so the ideal result.

    A prompt for whole numbers gets the rounded score, as the toy world's own rewards are.

    Args:
        noise, bias, noise_seed: of `Misjudgement`; the question decides the error, whatever the
            item is called, so that the same question has the same answer.
    """

    def __init__(self, *, noise: float = 0.0, bias: float = 0.0, noise_seed: int = 0) -> None:
        self._misjudgement = Misjudgement(noise, bias, noise_seed)
        self._scores: dict[tuple[str, bytes], tuple[float, ...]] = {}

    @property
    def name(self) -> str:
        return "toy"

    @property
    def settings(self) -> Mapping[str, Any]:
        erring = self._misjudgement
        if not erring:
            return {"model": MODEL}
        return {
            "model": MODEL, "noise": erring.noise, "bias": erring.bias, "noise_seed": erring.seed
        }  # fmt: skip

    async def ask(self, question: Question) -> Verdict:
        """The exact score, or what the judge takes it for.

        Raises:
            DataError: if the question does not say what scene and edit it is about, is of another
                perspective or range, or its picture is none of a scene.
        """
        where = f"item {question.item!r}"
        answer = question.prompt.answer
        if question.perspective not in PERSPECTIVES or (answer.low, answer.high) != (0, 5):
            raise DataError(
                f"{where}: the toy judge scores {', '.join(PERSPECTIVES)} from 0 to 5, not "
                f"{question.perspective} of pack {question.pack.name}"
            )
        index = PERSPECTIVES.index(question.perspective)
        given = self._misjudgement(self._judge(question, where)[index], question.key)
        value = round(given) if answer.integer else given
        return self.verdict(
            question,
            "ok",
            score=value,
            passed=given >= PASS if answer.passed else None,
            text=_text(question, index, round(given)) if answer.text else "",
            model=MODEL,
        )

    def _judge(self, question: Question, where: str) -> tuple[float, ...]:
        """All three scores; the perspectives of an edit are asked for one after the other."""
        edited = question.file("edited")
        known = question.item, edited
        if known not in self._scores:
            if not {"scene", "edit"} <= question.extra.keys():
                raise DataError(f"{where}: the toy judge needs scenes; judge what `mre toy` made")
            picture = decode_image(edited, f"{where}: edited picture")
            candidate = np.asarray(picture, np.float32)[None] / np.float32(255)
            scenes = Scenes.from_json([question.extra["scene"]])
            edits = Edits.from_json([question.extra["edit"]])
            if len(self._scores) >= _KEPT:
                self._scores.pop(next(iter(self._scores)))
            self._scores[known] = tuple(score(scenes, edits, candidate)[0].tolist())
        return self._scores[known]


def _text(question: Question, index: int, value: int) -> str:
    """What the data set says of the edit, or how bad it is without saying in which way."""
    texts = question.extra.get("texts")
    if texts is not None:
        return str(texts[index])
    return _FLAWS[index].format(GRADES[value]) if value < len(GRADES) else NO_FEEDBACK
