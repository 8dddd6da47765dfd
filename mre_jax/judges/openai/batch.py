"""The same models through OpenAI's Batch API: half the price, an answer within a day.

Requests go in shards: written -> uploaded -> created -> polled -> collected, each step written down
when it is done (`batch_folder`). A process that ends in between leaves at most a file or a batch
of which only the server knows; it is looked for by name and metadata before another is made.
"""

import asyncio
import dataclasses
import itertools
import json
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from pathlib import Path
from typing import Any, TypeVar

from mre_jax.errors import BusyError, ConfigError, DataError, MreError
from mre_jax.io.json_file import numbered_lines, parse_row
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import BatchJudge
from mre_jax.judges.openai.batch_folder import BatchFolder, Line, ShardState
from mre_jax.judges.openai.client import redact
from mre_jax.judges.openai.failure import Failure, read_failure, read_refusal
from mre_jax.judges.openai.judge import ModelJudge
from mre_jax.judges.openai.model import Model, Tally
from mre_jax.judges.openai.reply import Reply, read_reply, read_said
from mre_jax.judges.openai.request import Message
from mre_jax.judges.packs.pack import PromptPack, load_pack
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import FINAL, Verdict

PRICE = 0.5
"""Of a request in a batch, as a share of the same one by itself."""

MAX_LINES, MAX_BYTES = 50_000, 200_000_000
_ROUNDS = 3  # times that a request without an answer is sent
_TRIES = 8  # of one call to the server
_ALONE = 3  # times that the server's queue may refuse the only batch in it
_ENDPOINTS = {
    None: "/v1/chat/completions",  # in folders of before there was another
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
}
_ABOUT = ("key", "item", "perspective", "question", "prompt_hash", "repeat", "settings")
_EXPIRED = 504  # stands for a request that the batch did not come to
_ENDED = ("completed", "expired", "cancelled")

_T = TypeVar("_T")
_log = logging.getLogger("mre_jax.judges")


class OpenAIBatchJudge(ModelJudge, BatchJudge):
    """Asks in batches.

    Keys are those of `OpenAIJudge`: what one has answered, the other does not ask again.

    Args:
        model: name that the server knows.
        lines: requests of a batch, at most.
        bytes_: size of a batch's file, at most.
        active: batches under way at any moment; their files lie on the disk.
        poll_seconds: time between two looks at them.
        options: options of `Model`; `usd` is the price without the discount.

    Raises:
        ConfigError: as `Model`, and for a number out of range.
    """

    discount = PRICE

    def __init__(
        self,
        model: str,
        *,
        lines: int = MAX_LINES,
        bytes_: int = MAX_BYTES,
        active: int = 10,
        poll_seconds: float = 60.0,
        **options: Any,
    ):
        if not 1 <= lines <= MAX_LINES or not 1 <= bytes_ <= MAX_BYTES or active < 1:
            raise ConfigError(
                f"lines {lines}, bytes {bytes_}, active {active}: want 1 to {MAX_LINES}, 1 to "
                f"{MAX_BYTES}, and at least 1"
            )
        super().__init__(Model(model, **options))
        facts = self.model.facts
        if facts.usd is not None:
            halved = facts.usd[0] * PRICE, facts.usd[1] * PRICE
            self.model.facts = dataclasses.replace(facts, usd=halved)
        self.lines, self.bytes, self.active = lines, bytes_, active
        self.poll_seconds = poll_seconds

    @property
    def name(self) -> str:
        return f"openai-batch:{self.model.request.model}"

    def worst_usd(self, question: Question) -> float:
        return self.model.worst_usd(Message.of(question))

    async def ask_many(
        self, questions: Iterable[Question], journal: Journal, budget: Budget
    ) -> AsyncIterator[Verdict]:
        """See `BatchJudge`; the batches lie in a folder beside the journal.

        Raises:
            ConfigError: for a wrong key, model or setting, no money, a batch that fails, or one
                that is larger than the organisation's queue.
            BusyError: if the server cannot be reached, or after `halt`; run it again to go on.
        """
        folder = journal.path.parent / f"{journal.path.name}.batches"
        folder.mkdir(parents=True, exist_ok=True)
        with BatchFolder(folder) as batches:
            flow = _Flow(self, batches, journal, budget)
            async for verdict in flow.run(questions):
                yield verdict


class _Flow:
    """One `ask_many`."""

    def __init__(
        self, judge: OpenAIBatchJudge, folder: BatchFolder, journal: Journal, budget: Budget
    ):
        self._judge = judge
        self._folder = folder
        self._journal = journal
        self._budget = budget
        self._server = _Server(judge.model)
        self._owners: dict[str, str] = {}  # key -> the item whose request is under way
        self._followers: dict[str, list[str]] = {}  # key -> other items that ask the same
        self._held: Line | None = None  # the first line that did not fit
        self._refusals = 0

    async def run(self, questions: Iterable[Question]) -> AsyncIterator[Verdict]:
        found = {shard.name for shard in self._folder.unfinished()}
        for shard in self._folder.unfinished():
            for line in self._folder.lines(shard.name):
                self._owners[line.key] = line.item
            self._reserve(shard)
        lines = self._lines(questions)
        while True:
            self._fill(lines)
            if not self._folder.unfinished():
                break
            for shard in self._folder.unfinished():
                for verdict in await self._advance(shard, look=shard.name in found):
                    yield verdict
            if self._folder.unfinished():
                await self._judge.model.pace.wait(self._judge.poll_seconds)
        while (unpaid := self._next(lines)) is not None:
            text = f"{self._journal.spent:.2f} of {self._budget.max_usd:.2f} USD spent"
            yield _verdict(unpaid, Reply("budget_stopped", text=text), 0.0, requests=0)

    def _lines(self, questions: Iterable[Question]) -> Iterator[Line]:
        """The questions that are not under way already."""
        for question in questions:
            key = self._judge.key(question)
            owner = self._owners.get(key)
            if owner is None:
                self._owners[key] = question.item
                yield self._line(key, question)
            elif owner != question.item:
                self._followers.setdefault(key, []).append(question.item)

    def _fill(self, lines: Iterator[Line]) -> None:
        """Makes shards while there are questions, room and money."""
        while len(self._folder.unfinished()) < self._judge.active:
            fitting = self._fitting(lines)
            first = next(fitting, None)
            if first is None:
                return
            self._reserve(self._folder.write_shard(itertools.chain([first], fitting)))

    def _fitting(self, lines: Iterator[Line]) -> Iterator[Line]:
        """As many lines as one shard takes; the next one is held back."""
        count, size, usd = 0, 0, 0.0
        while (line := self._next(lines)) is not None:
            count, size, usd = count + 1, size + len(line.body) + 1, usd + line.usd
            if count == 1 and size > self._judge.bytes:
                raise DataError(
                    f"item {line.item!r}: its pictures make a request of {size / 1e6:.0f} MB; "
                    "send smaller ones"
                )
            full = count > self._judge.lines or size > self._judge.bytes
            if full or not self._budget.covers(self._journal.spent, usd):
                self._held = line
                return
            yield line

    def _next(self, lines: Iterator[Line]) -> Line | None:
        line, self._held = self._held, None
        return line or next(lines, None)

    def _reserve(self, shard: ShardState) -> None:
        if not self._journal.reserved(shard.name):
            self._journal.reserve(shard.name, shard.usd)

    async def _advance(self, shard: ShardState, look: bool) -> list[Verdict]:
        """Does what is next for a shard; `look`: an earlier process may have done it."""
        if shard.file_id is None:
            file = await self._server.upload(self._folder.requests(shard.name), look)
            self._folder.note("uploaded", shard.name, file=file)
        if shard.batch_id is None:
            line = next(self._folder.lines(shard.name))
            batch = await self._server.create(shard, look, _ENDPOINTS[line.settings.get("api")])
            self._folder.note("created", shard.name, batch=batch)
        status = await self._server.status(shard)
        if status.status == "failed":
            self._failed(shard, status)
            return []
        if status.status not in _ENDED:
            return []
        self._refusals = 0
        return await self._collect(shard, status)

    def _failed(self, shard: ShardState, status: Any) -> None:
        errors = list(getattr(status.errors, "data", None) or ())
        text = redact("; ".join(f"{e.code}: {e.message}" for e in errors))[:300]
        if any(error.code == "token_limit_exceeded" for error in errors):
            self._folder.note("failed", shard.name)  # to be created again at the next look
            alone = len(self._folder.unfinished()) == 1
            self._refusals = self._refusals + 1 if alone else 0
            if self._refusals < _ALONE:
                return
            text = f"the server's queue does not take it ({text}); set fewer lines"
        self._journal.release(shard.name)
        self._folder.note("done", shard.name)
        raise ConfigError(f"batch {status.id} failed: {text or 'no reason given'}")

    async def _collect(self, shard: ShardState, status: Any) -> list[Verdict]:
        """Writes down the answers of a batch that has ended, and sends the rest of it again."""
        questions = {line.key: line for line in self._folder.lines(shard.name)}
        replies = await self._replies(status, questions)
        verdicts, rest, stops = [], set(), []
        last = shard.round + 1 >= _ROUNDS or status.status == "cancelled"
        for line in questions.values():
            reply = replies.get(line.key) or Failure("broken", f"not in the {status.status} batch")
            if isinstance(reply, Failure) and reply.kind == "stop":
                stops.append(reply)
            elif isinstance(reply, Failure) and not last:
                rest.add(line.key)
            else:
                verdicts += self._settle(line, reply)
        if rest and not stops:
            self._resend(shard, rest)
        self._journal.release(shard.name)
        self._folder.note("done", shard.name)
        if stops:  # what was answered is in the journal; the rest is asked again when it is mended
            raise ConfigError(self._judge.model.remedy(stops[0]))
        return verdicts

    async def _replies(
        self, status: Any, questions: Mapping[str, Line]
    ) -> dict[str, Reply | Failure]:
        """The answers in the files of a batch, by key."""
        replies: dict[str, Reply | Failure] = {}
        packs: dict[str, PromptPack] = {}
        for file in (status.output_file_id, status.error_file_id):
            content = await self._server.content(file) if file is not None else b""
            for row in self._rows(content, str(file)):
                line = questions.get(str(row.get("custom_id")))
                if line is not None and line.key not in replies:
                    pack = packs.setdefault(line.pack, load_pack(line.pack))
                    replies[line.key] = self._read(row, line, pack)
        return replies

    def _rows(self, content: bytes, file: str) -> Iterator[dict[str, Any]]:
        """The objects of a file of answers; a line that is none is kept and logged."""
        for number, line in numbered_lines(content):
            try:
                yield parse_row(line, f"{file}:{number}")
            except DataError as error:
                kept = self._folder.keep_unread(line)
                _log.warning("%s; the line is kept in %s, its question is asked again", error, kept)

    def _read(self, row: Mapping[str, Any], line: Line, pack: PromptPack) -> Reply | Failure:
        response = row.get("response") or {}
        status, body = response.get("status_code"), response.get("body")
        if status == 200:
            said = read_said(body if isinstance(body, str) else json.dumps(body))
        else:
            error = body or row.get("error") or "no answer"
            said = read_refusal(status or _EXPIRED, json.dumps(error))
        if isinstance(said, Failure):
            return Reply.of(said) if said.kind in ("filtered", "refused") else said
        reply = read_reply(said, pack.prompt(line.perspective))
        self._judge.model.check_model(reply.model)
        return reply

    def _settle(self, line: Line, reply: Reply | Failure) -> list[Verdict]:
        """The verdicts on a line: its own, and those of other items that ask the same."""
        if isinstance(reply, Failure):
            reply = Reply.of(reply)
        usd = self._judge.model.facts.cost(**reply.usage) if reply.usage else 0.0
        verdict = _verdict(line, reply, usd, requests=1)
        known = self._journal.find(line.key, line.item)
        if known is None or known.status not in FINAL:  # not collected before a process ended
            self._journal.append(verdict)
        del self._owners[line.key]
        verdicts = [verdict]
        for item in self._followers.pop(line.key, ()):
            copy = dataclasses.replace(verdict, item=item, usage={}, usd=0.0, requests=0)
            self._journal.append(copy)
            verdicts.append(copy)
        return verdicts

    def _resend(self, shard: ShardState, keys: Collection[str]) -> None:
        if any(other.parent == shard.name for other in self._folder.shards.values()):
            return  # written before a process ended
        lines = (line for line in self._folder.lines(shard.name, bodies=True) if line.key in keys)
        self._reserve(self._folder.write_shard(lines, shard.round + 1, shard.name))

    def _line(self, key: str, question: Question) -> Line:
        body = {
            "custom_id": key,
            "method": "POST",
            "url": _ENDPOINTS[self._judge.model.request.api],
            "body": self._judge.model.request.body(Message.of(question)),
        }
        return Line(
            key=key,
            item=question.item,
            perspective=question.perspective,
            question=question.key,
            prompt_hash=question.prompt.hash,
            repeat=question.repeat,
            pack=question.pack.name,
            usd=self._judge.worst_usd(question),
            settings=self._judge.recorded(question, self._judge.used),
            body=json.dumps(body),
        )


class _Server:
    """The calls of a shard, each tried several times."""

    def __init__(self, model: Model):
        self._model = model
        self._client = model.client

    async def upload(self, path: Path, look: bool) -> str:
        """The id of the shard's file on the server."""

        async def find() -> str | None:
            async for file in self._client.files.list(purpose="batch"):
                if file.filename == path.name:
                    return file.id
            return None

        async def make() -> str:
            name_and_content = path.name, path.read_bytes()
            return (await self._client.files.create(file=name_and_content, purpose="batch")).id

        return await self._once(find, make, look)

    async def create(self, shard: ShardState, look: bool, endpoint: str) -> str:
        """The id of the shard's batch on the server."""
        metadata = {"mre_shard": shard.name, "mre_attempt": str(shard.attempt)}

        async def find() -> str | None:
            async for batch in self._client.batches.list(limit=100):
                if metadata.items() <= dict(batch.metadata or {}).items():
                    return batch.id
            return None

        async def make() -> str:
            batch = await self._client.batches.create(
                input_file_id=shard.file_id,
                endpoint=endpoint,
                completion_window="24h",
                metadata=metadata,
            )
            return batch.id

        return await self._once(find, make, look)

    async def status(self, shard: ShardState) -> Any:
        """The batch as the server has it."""
        return await self._call(lambda: self._client.batches.retrieve(shard.batch_id))

    async def content(self, file: str) -> bytes:
        """A file on the server."""
        response = await self._call(lambda: self._client.files.content(file))
        return response.content

    async def _once(
        self,
        find: Callable[[], Awaitable[str | None]],
        make: Callable[[], Awaitable[str]],
        look: bool,
    ) -> str:
        """Makes something that must not be made twice: after a doubt, looks for it first."""

        async def attempt() -> str:
            nonlocal look
            found = await find() if look else None
            look = True
            return found or await make()

        return await self._call(attempt)

    async def _call(self, call: Callable[[], Awaitable[_T]]) -> _T:
        async def send() -> _T | Failure:
            try:
                return await call()
            except (asyncio.CancelledError, MreError):
                raise
            except Exception as error:
                failure = read_failure(error)
            if failure.kind == "stop":
                raise ConfigError(self._remedy(failure))
            return failure

        answer = await self._model.insist(send, Tally(attempts=_TRIES))
        if not isinstance(answer, Failure):
            return answer
        if answer.kind in ("refused", "filtered"):
            raise ConfigError(f"the server refuses the batch ({answer.text})")
        raise BusyError(f"the server does not answer ({answer.text}); run it again")

    def _remedy(self, failure: Failure) -> str:
        if failure.about != "address":
            return self._model.remedy(failure)
        return (
            f"{self._model.recorded()['base_url']} answers no requests for files and batches "
            f"({failure.text}); check base_url, or take the judge "
            f"openai:{self._model.request.model}"
        )


def _verdict(line: Line, reply: Reply, usd: float, requests: int) -> Verdict:
    about = {name: getattr(line, name) for name in _ABOUT}
    return Verdict(**about, **vars(reply), usd=usd, requests=requests)
