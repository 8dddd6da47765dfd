"""The judges of the toy world: exact ones, and ones that err by a known amount."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import decode_image
from mre_jax.judges.judge import DirectJudge
from mre_jax.judges.packs.pack import CHOSEN, Answer
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
_EQUAL = 1e-6  # what equal edits may differ by in float32

OVERALL = "overall"
"""The perspective of a pair that is the mean of the three."""


class ToyJudge(DirectJudge):
    """Knows the scene and the edit, and so the ideal result.

    A prompt for whole numbers gets the rounded score, as the toy world's own rewards are. Of a pair
    the edit with the higher score is chosen, in "overall" by the mean of the three; of two equal
    ones the first, where the choice is forced.

    Args:
        noise, bias, noise_seed: of `Misjudgement`; the question decides the error, whatever the
            item is called, so that the same question has the same answer.
        first_bias: points by which the edit of a pair that is shown first seems better.

    Raises:
        ConfigError: as `Misjudgement`; or if `first_bias` is not finite.
    """

    def __init__(
        self, *, noise: float = 0.0, bias: float = 0.0, noise_seed: int = 0, first_bias: float = 0.0
    ) -> None:
        if not math.isfinite(first_bias):
            raise ConfigError(f"first_bias is {first_bias!r}: want a finite number")
        self._misjudgement = Misjudgement(noise, bias, noise_seed)
        self._first_bias = first_bias
        self._scores: dict[tuple[str, bytes], tuple[float, ...]] = {}

    @property
    def name(self) -> str:
        return "toy"

    @property
    def settings(self) -> Mapping[str, Any]:
        erring = self._misjudgement
        known: dict[str, Any] = {"model": MODEL}
        if erring:
            known |= {"noise": erring.noise, "bias": erring.bias, "noise_seed": erring.seed}
        return known | ({"first_bias": self._first_bias} if self._first_bias else {})

    async def ask(self, question: Question) -> Verdict:
        """The exact score, or what the judge takes it for.

        Raises:
            DataError: if the question does not say what scene and edit it is about, is of another
                perspective or range, or its picture is none of a scene.
        """
        where = f"item {question.item!r}"
        answer = question.prompt.answer
        if answer.choices:
            return self._compare(question, where)
        if question.perspective not in PERSPECTIVES or (answer.low, answer.high) != (0, 5):
            raise DataError(
                f"{where}: the toy judge scores {', '.join(PERSPECTIVES)} from 0 to 5, not "
                f"{question.perspective} of pack {question.pack.name}"
            )
        index = PERSPECTIVES.index(question.perspective)
        given = self._misjudgement(self._judge(question, "edited", where)[index], question.key)
        value = round(given) if answer.integer else given
        return self.verdict(
            question,
            "ok",
            score=value,
            passed=given >= PASS if answer.passed else None,
            text=_text(question, index, round(given)) if answer.text else "",
            model=MODEL,
        )

    def _compare(self, question: Question, where: str) -> Verdict:
        """The choice between the edits of a pair."""
        if question.perspective not in (*PERSPECTIVES, OVERALL):
            raise DataError(
                f"{where}: the toy judge compares {', '.join(PERSPECTIVES)} and {OVERALL}, not "
                f"{question.perspective} of pack {question.pack.name}"
            )
        exact = [self._seen(question, name, where) for name in ("first", "second")]
        # Each edit is misjudged by itself, and in each order anew.
        first, second = (
            self._misjudgement(value, f"{question.key} {place}")
            for place, value in enumerate(exact)
        )
        score = _choice(first + self._first_bias - second, question.prompt.answer)
        text = f"{first:.2f} against {second:.2f}" if question.prompt.answer.text else ""
        return self.verdict(question, "ok", score=score, text=text, model=MODEL)

    def _seen(self, question: Question, name: str, where: str) -> float:
        """The exact score of one edit of a pair."""
        scores = self._judge(question, name, where)
        if question.perspective == OVERALL:
            return sum(scores) / len(scores)
        return scores[PERSPECTIVES.index(question.perspective)]

    def _judge(self, question: Question, name: str, where: str) -> tuple[float, ...]:
        """All three scores; the perspectives of an edit are asked for one after the other."""
        edited = question.file(name)
        known = question.item, edited
        if known not in self._scores:
            if not {"scene", "edit"} <= question.extra.keys():
                raise DataError(f"{where}: the toy judge needs scenes; judge what `mre toy` made")
            picture = decode_image(edited, f"{where}: {name} picture")
            candidate = np.asarray(picture, np.float32)[None] / np.float32(255)
            scenes = Scenes.from_json([question.extra["scene"]])
            edits = Edits.from_json([question.extra["edit"]])
            if len(self._scores) >= _KEPT:
                self._scores.pop(next(iter(self._scores)))
            self._scores[known] = tuple(score(scenes, edits, candidate)[0].tolist())
        return self._scores[known]


def _choice(lead: float, answer: Answer) -> float:
    """The score of a pair whose first edit is better by so many points."""
    if abs(lead) > _EQUAL:
        return CHOSEN[0 if lead > 0 else 1]
    return CHOSEN[2 if len(answer.choices) > 2 else 0]


def _text(question: Question, index: int, value: int) -> str:
    """What the data set says of the edit, or how bad it is without saying in which way."""
    texts = question.extra.get("texts")
    if texts is not None:
        return str(texts[index])
    return _FLAWS[index].format(GRADES[value]) if value < len(GRADES) else NO_FEEDBACK
