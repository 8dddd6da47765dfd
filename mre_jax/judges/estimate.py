"""What judging would take: requests, tokens, batches, money. Nothing is sent."""

import dataclasses
import datetime
import json
from collections.abc import Collection, Iterable, Iterator

from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.judge import Judge
from mre_jax.judges.openai.batch import MAX_BYTES, MAX_LINES, PRICE
from mre_jax.judges.openai.judge import ModelJudge
from mre_jax.judges.openai.model import Model
from mre_jax.judges.openai.request import Message
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import FINAL

_ANSWER_TOKENS = 40  # of a score and a sentence
_THOUGHT_TOKENS = 1000  # before it, of a model that thinks


@dataclasses.dataclass
class Estimate:
    """What is still to be asked of a model.

    Attributes:
        judge: name of the judge.
        model: name of the model at the server.
        answered: questions that the journal answers.
        requests: one a question that it does not.
        prompt_tokens: input tokens of the requests, about, pictures at the detail asked for.
        completion_tokens, most_completion_tokens: output tokens, about and at most.
        bytes: length of the requests, about; a picture in one is a third longer than its file.
        batches: files that the Batch API would take them in.
        usd, batch_usd: about, each request by itself and in batches; None without a price.
        most_usd: the most, as it is reserved, in the way the judge asks; None without a price.
        priced: date of the price, or "yours".
        notes: what is assumed, and what is known of the model's retirement.
    """

    judge: str
    model: str
    answered: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    most_completion_tokens: int = 0
    bytes: int = 0
    batches: int = 0
    usd: float | None = None
    batch_usd: float | None = None
    most_usd: float | None = None
    priced: str = ""
    notes: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.judge}: {self.requests} requests, {self.answered} answered before"
        yield (
            f"input about {self.prompt_tokens / 1e6:.3f} million tokens, output about "
            f"{self.completion_tokens / 1e6:.3f}, at most {self.most_completion_tokens / 1e6:.3f}"
        )
        each = self.bytes / max(self.requests, 1)
        yield f"to send about {self.bytes / 1e6:.1f} MB, {each / 1e3:.0f} kB a request"
        yield (
            f"in batches: {self.batches}, of at most {MAX_LINES} requests and "
            f"{MAX_BYTES // 10**6} MB"
        )
        if self.usd is None:
            yield f"no price is known for {self.model}; give --price"
        else:
            yield (
                f"about {self.usd:.2f} USD, in batches {self.batch_usd:.2f}; at most "
                f"{self.most_usd:.2f} as asked for (prices: {self.priced})"
            )
        yield from self.notes


def estimate(
    judge: Judge, questions: Iterable[Question], answered: Collection[str] = ()
) -> Estimate:
    """Counts what is to be asked; reads every picture's header.

    Args:
        judge: one of `openai` or `openai-batch`.
        questions: all, read once.
        answered: keys that are not asked again; see `answered_keys`.

    Raises:
        ConfigError: for a judge that sends nothing to anybody.
    """
    if not isinstance(judge, ModelJudge):
        raise ConfigError(f"judge {judge.name} sends nothing; there is nothing to estimate")
    model = judge.model
    seen = set(answered)
    found = Estimate(judge.name, model.request.model)
    most = 0.0
    lines = size = 0
    for question in questions:
        key = judge.key(question)
        if key in seen:
            found.answered += 1
            continue
        seen.add(key)
        found.requests += 1
        found.prompt_tokens += model.tokens(Message.of(question))
        most += judge.worst_usd(question)
        length = _line_bytes(question)
        found.bytes += length
        lines, size = lines + 1, size + length
        if lines > MAX_LINES or size > MAX_BYTES or found.batches == 0:
            lines, size = 1, length
            found.batches += 1
    thoughts = _THOUGHT_TOKENS * model.facts.thinks
    each = min(_ANSWER_TOKENS + thoughts, model.request.max_tokens)
    found.completion_tokens = found.requests * each
    found.most_completion_tokens = found.requests * model.request.max_tokens
    facts = model.facts
    if facts.usd is not None:
        found.usd = facts.cost(found.prompt_tokens, found.completion_tokens) / judge.discount
        found.batch_usd = found.usd * PRICE
        found.most_usd, found.priced = most, facts.priced
    found.notes = list(_notes(model, each))
    return found


def _notes(model: Model, each: int) -> Iterator[str]:
    facts, detail = model.facts, model.request.detail
    thinking = ", thinking included" if facts.thinks else ""
    shown = f", pictures at detail {detail}" if detail else ""
    yield f"assumed: {each} tokens an answer{thinking}{shown}"
    if detail == "low" and facts.tiles is None:
        yield "assumed: a picture of low detail counts as one of full detail"
    if warning := facts.warning(datetime.datetime.now(datetime.UTC).date()):
        yield warning


def answered_keys(journal: epath.PathLike) -> set[str]:
    """The keys that a journal answers; none if there is no journal yet."""
    if not epath.Path(journal).exists():
        return set()
    return {verdict.key for verdict in read_verdicts(journal) if verdict.status in FINAL}


def _line_bytes(question: Question) -> int:
    """About the length of its line in a batch's file."""
    texts = json.dumps([question.prompt.system, question.prompt.message(question.instruction)])
    return 1000 + len(texts) + sum(len(picture) * 4 // 3 for picture in question.pictures)
