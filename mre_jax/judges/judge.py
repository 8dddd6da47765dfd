"""What every judge offers, and which there are.

openai:MODEL          a model behind the chat completions of OpenAI or a compatible server
openai-batch:MODEL    the same model through OpenAI's Batch API, at half the price
toy                   the exact judges of the toy world
replay:JOURNAL        the answers that another run has written down
human:FILE            scores that people gave, as CSV or JSONL
"""

import hashlib
import importlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

from mre_jax.errors import ConfigError
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

JUDGES = {
    "openai": ("mre_jax.judges.openai.judge", "OpenAIJudge"),
    "openai-batch": ("mre_jax.judges.openai.batch", "BatchJudge"),
    "toy": ("mre_jax.judges.others.toy", "ToyJudge"),
    "replay": ("mre_jax.judges.others.replay", "ReplayJudge"),
    "human": ("mre_jax.judges.others.human", "HumanJudge"),
}


class Judge(Protocol):
    """Answers questions.

    Attributes:
        name: as `make_judge` takes it.
        settings: JSON values that, with the question, determine what is asked of whom.
    """

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> Mapping[str, Any]: ...

    def worst_usd(self, question: Question) -> float:
        """The most that `ask` can cost; 0 for a judge without a price."""
        ...

    async def ask(self, question: Question) -> Verdict:
        """The judge's answer; an item that cannot be judged has a verdict that says why.

        Raises:
            MreError: if no further question can be answered either.
        """
        ...

    def halt(self) -> None:
        """Gives up what waits to be sent: `ask` raises `BusyError` there."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...


def make_judge(spec: str, **options: Any) -> Judge:
    """Makes the judge that a text names.

    Args:
        spec: "openai:MODEL" and so on, see above.
        options: of the judge's class.

    Raises:
        ConfigError: if there is no such judge, or it does not have such an option.
        DataError: if its file cannot be read.
    """
    rest = spec.partition(":")[2]
    make = judge_class(spec)
    try:
        return make(*([rest] if rest else []), **options)
    except TypeError as error:
        raise ConfigError(f"judge {spec!r}: {error}") from None


def judge_class(spec: str) -> Any:
    """The class of the judge that a text names.

    Raises:
        ConfigError: if there is none.
    """
    kind, _, rest = spec.partition(":")
    if kind not in JUDGES:
        raise ConfigError(f"judge {spec!r}: want one of {', '.join(JUDGES)}")
    if (kind == "toy") == bool(rest):
        raise ConfigError(f"judge {spec!r}: want {kind if kind == 'toy' else f'{kind}:NAME'}")
    module, name = JUDGES[kind]
    return getattr(importlib.import_module(module), name)


def request_key(judge: Judge, question: Question) -> str:
    """SHA-256 of the question and the judge's settings: equal keys are paid for once."""
    values = json.dumps({"judge": dict(judge.settings), "question": question.key}, sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()


def plain_settings(
    judge: Judge, question: Question, used: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What decides an answer besides the snapshot and the prompt, as JSON values to be recorded.

    Of a model behind a server: "model", "base_url", "api", "form", "temperature", "max_tokens",
    "max_tokens_field", "seed", "detail", "system"; of every judge: "pictures", how they are
    encoded, and "pack", the name of the prompts. `Verdict.model` and `Verdict.prompt_hash` are
    the rest.

    Args:
        used: what was sent, where that may differ from `judge.settings`.
    """
    settings = judge.settings if used is None else used
    return {**settings, "pictures": question.encoding, "pack": question.pack.name}


def verdict_for(
    judge: Judge,
    question: Question,
    status: str,
    *,
    used: Mapping[str, Any] | None = None,
    **values: Any,
) -> Verdict:
    """A verdict with everything filled in that question and judge determine.

    Args:
        used: see `plain_settings`.
    """
    return Verdict(
        key=request_key(judge, question),
        item=question.item,
        perspective=question.perspective,
        status=status,
        prompt_hash=question.prompt.hash,
        question=question.key,
        repeat=question.repeat,
        **{"settings": plain_settings(judge, question, used), **values},
    )
