"""What every judge offers, and which there are.

openai:MODEL          a model behind the chat completions of OpenAI or a compatible server
openai-batch:MODEL    the same model through OpenAI's Batch API, at half the price
toy                   the exact judges of the toy world
replay:JOURNAL        the answers that another run has written down
human:FILE            scores that people gave, as CSV or JSONL

A new judge is a class in a file of its own and a line in `JUDGES`.
"""

import abc
import hashlib
import importlib
import inspect
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

JUDGES = {
    "openai": ("mre_jax.judges.openai.judge", "OpenAIJudge"),
    "openai-batch": ("mre_jax.judges.openai.batch", "OpenAIBatchJudge"),
    "toy": ("mre_jax.judges.others.toy", "ToyJudge"),
    "replay": ("mre_jax.judges.others.replay", "ReplayJudge"),
    "human": ("mre_jax.judges.others.human", "HumanJudge"),
}
"""By the word before the colon: module and class, which takes what follows the colon."""


class Judge(abc.ABC):
    """What all judges have; each is a `DirectJudge` or a `BatchJudge`.

    Attributes:
        name: text that `make_judge` takes.
        settings: JSON values that, with the question, determine what is asked of whom.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str: ...

    @property
    @abc.abstractmethod
    def settings(self) -> Mapping[str, Any]: ...

    @property
    def used(self) -> Mapping[str, Any]:
        """What decides an answer besides the question, as it is recorded.

        Of a model behind a server: "model", "base_url", "api", "form", "temperature",
        "max_tokens", "max_tokens_field", "seed", "detail", "system".
        """
        return self.settings

    @property
    def price_known(self) -> bool:
        """Whether `worst_usd` says what an answer costs."""
        return True

    @classmethod
    def options(cls) -> frozenset[str]:
        """Names of the options that `make_judge` takes."""
        parameters = inspect.signature(cls).parameters.values()
        return frozenset(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    def worst_usd(self, question: Question) -> float:
        """The most that an answer can cost; 0 for a judge without a price."""
        return 0.0

    def halt(self) -> None:  # noqa: B027 (most do not wait)
        """Gives up what waits to be sent, which raises `BusyError` there."""

    async def close(self) -> None:  # noqa: B027 (most have none)
        """Closes connections."""

    def key(self, question: Question) -> str:
        """SHA-256 of the question and the judge's settings: equal keys are paid for once."""
        values = {"judge": dict(self.settings), "question": question.key}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def recorded(self, question: Question, used: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """`Verdict.settings`: with "pictures", their encoding, and "pack", the prompts' name.

        Args:
            used: what was sent, where that may differ from `settings`.
        """
        sent = self.settings if used is None else used
        return {**sent, "pictures": question.encoding, "pack": question.pack.name}

    def verdict(
        self,
        question: Question,
        status: str,
        *,
        used: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> Verdict:
        """A verdict with everything filled in that question and judge determine.

        Args:
            used: see `recorded`.
            values: further fields of the verdict.
        """
        return Verdict(
            key=self.key(question),
            item=question.item,
            perspective=question.perspective,
            status=status,
            prompt_hash=question.prompt.hash,
            question=question.key,
            repeat=question.repeat,
            **{"settings": self.recorded(question, used), **values},
        )


class DirectJudge(Judge):
    """A judge that answers one question at a time.

    Example:
        >>> class Mild(DirectJudge):
        ...     name, settings = "mild", {"model": "mild-1"}
        ...
        ...     async def ask(self, question):
        ...         return self.verdict(question, "ok", score=4, model="mild-1")
        >>> Mild.options()
        frozenset()

        With `"mild": ("its.module", "Mild")` in `JUDGES`, `--judge mild` asks it.
    """

    @abc.abstractmethod
    async def ask(self, question: Question) -> Verdict:
        """The judge's answer; an item that cannot be judged has a verdict that says why.

        Raises:
            MreError: if no further question can be answered either.
        """


class BatchJudge(Judge):
    """A judge that takes many questions together and answers them in any order."""

    @abc.abstractmethod
    def ask_many(
        self, questions: Iterable[Question], journal: Journal, budget: Budget
    ) -> AsyncIterator[Verdict]:
        """Answers questions that the journal does not answer; writes them into it.

        Raises:
            MreError: if no further question can be answered.
        """


def make_judge(name: str, **options: Any) -> Judge:
    """Makes the judge that a text names.

    Args:
        name: "openai:MODEL" and so on, see above.
        options: options of the judge's class.

    Raises:
        ConfigError: if there is no such judge, or it does not have such an option.
        DataError: if its file cannot be read.
    """
    rest = name.partition(":")[2]
    make: Any = judge_class(name)
    try:
        return make(*([rest] if rest else []), **options)
    except TypeError as error:
        raise ConfigError(f"judge {name!r}: {error}") from None


def judge_class(name: str) -> type[Judge]:
    """The class of the judge that a text names.

    Raises:
        ConfigError: if there is none.
    """
    kind, _, rest = name.partition(":")
    if kind not in JUDGES:
        raise ConfigError(f"judge {name!r}: want one of {', '.join(JUDGES)}")
    module, attribute = JUDGES[kind]
    made = getattr(importlib.import_module(module), attribute)
    takes_name = any(
        p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(made).parameters.values()
    )
    if takes_name != bool(rest):
        raise ConfigError(f"judge {name!r}: want {f'{kind}:NAME' if takes_name else kind}")
    return made
