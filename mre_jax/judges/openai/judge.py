"""A model behind a server of OpenAI's protocol as a judge, one request a question."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import MreError
from mre_jax.judges.judge import DirectJudge, Judge
from mre_jax.judges.openai.model import ATTEMPTS, Model
from mre_jax.judges.openai.reply import read_reply
from mre_jax.judges.openai.request import Message
from mre_jax.judges.picture import picture_size
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict


class ModelJudge(Judge):
    """A judge that is a model, in whichever way it is asked.

    Attributes:
        model: who answers.
        discount: what its price is multiplied with, for the way it is asked.
    """

    discount = 1.0

    def __init__(self, model: Model):
        self.model = model

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.model.settings

    @property
    def used(self) -> Mapping[str, Any]:
        return self.model.recorded()

    def recorded(self, question: Question, used: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Judge.recorded`; with "sizes", width and height of each picture that is sent."""
        sizes = [list(picture_size(file, "picture")) for file in question.pictures]
        return {**super().recorded(question, used), "sizes": sizes}

    @property
    def price_known(self) -> bool:
        return self.model.facts.usd is not None

    @classmethod
    def options(cls) -> frozenset[str]:
        names = {*inspect.signature(Model).parameters, *super().options()}
        return frozenset(names - {"model", "pace"})

    def halt(self) -> None:
        self.model.pace.halt()

    async def close(self) -> None:
        await self.model.close()


class OpenAIJudge(ModelJudge, DirectJudge):
    """Asks for each answer by itself; one that cannot be read is asked for again.

    Args:
        model: name that the server knows.
        options: options of `Model`.

    Raises:
        ConfigError: as `Model`.
    """

    def __init__(self, model: str, **options: Any):
        super().__init__(Model(model, **options))

    @property
    def name(self) -> str:
        return f"openai:{self.model.request.model}"

    def worst_usd(self, question: Question) -> float:
        return ATTEMPTS * self.model.worst_usd(Message.of(question))

    async def ask(self, question: Question) -> Verdict:
        """The model's answer.

        Raises:
            ConfigError, BusyError: as `Model.answer`.
        """
        read = functools.partial(read_reply, prompt=question.prompt)
        try:
            reply, tally = await self.model.answer(Message.of(question), read)
        except MreError:
            self.halt()
            raise
        cost = {"usage": tally.usage, "usd": tally.usd, "requests": tally.requests}
        used = self.model.recorded(tally.sent)
        return self.verdict(question, used=used, **{**vars(reply), **cost})
