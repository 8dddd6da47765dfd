"""A model behind chat completions as a judge, one request a question."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.judges.chat import (
    FORMS,
    ChatSettings,
    Reply,
    estimate_tokens,
    most_tokens,
    read_reply,
)
from mre_jax.judges.judge import verdict_for
from mre_jax.judges.model_facts import ModelFacts, model_facts
from mre_jax.judges.openai_client import KEY, Failure, make_client, read_failure, server_address
from mre_jax.judges.pace import Pace, back_off
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

ATTEMPTS = 3
"""Requests for one question that may be paid for: answered, or not known to be unanswered."""

_FAILURES = 8  # requests for one question that were not answered
_WAITS = 50  # times that the server asks to wait
_LONG_WAIT = 60.0
_SHORT_ANSWER, _LONG_ANSWER = 300, 4000

_log = logging.getLogger("mre_jax.judges")


class OpenAIJudge:
    """Asks a server for chat completions.

    Args:
        model: name that the server knows.
        base_url: of another server than OpenAI's: vLLM, Azure's v1 path, anything compatible.
        key_name: environment variable that holds the key.
        form: "schema" or "text"; see `ChatSettings`.
        temperature: "auto" is 0 for models that take one.
        max_tokens: of an answer; by default 300, or 4000 for a model that thinks.
        seed, detail: see `ChatSettings`.
        model_echo: what the server must call the model in its answers, or begin with before a
            date; by default `model`. "any" takes every name.
        usd: price of a million input and output tokens, instead of the known one.
        requests_per_minute, tokens_per_minute: limits to keep to.
        timeout: seconds for one request.
        pace: replaces the one that these limits make.
        offline: for estimates: needs no key, and sends nothing.

    Raises:
        ConfigError: for an unknown form, a number out of range, a missing key or package.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_name: str = KEY,
        form: str = "schema",
        temperature: float | str | None = "auto",
        max_tokens: int | None = None,
        seed: int | None = None,
        detail: str | None = None,
        model_echo: str | None = None,
        usd: tuple[float, float] | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        timeout: float = 60.0,
        pace: Pace | None = None,
        offline: bool = False,
    ):
        self.facts: ModelFacts = model_facts(model, usd)
        if form not in FORMS:
            raise ConfigError(f"form {form!r}: want {' or '.join(FORMS)}")
        if detail not in (None, "low", "high", "auto"):
            raise ConfigError(f"detail {detail!r}: want low, high or auto")
        if isinstance(temperature, str):
            if temperature != "auto":
                raise ConfigError(f"temperature {temperature!r}: want a number or auto")
            temperature = None if self.facts.reasoning else 0.0
        if max_tokens is None:
            max_tokens = _LONG_ANSWER if self.facts.reasoning else _SHORT_ANSWER
        if max_tokens < 1 or not timeout > 0:
            raise ConfigError(f"max_tokens {max_tokens}, timeout {timeout}: want more than 0")
        self.chat = ChatSettings(model, max_tokens, form, temperature, seed, detail)
        self._echo = model_echo or model
        self._address = server_address(base_url)
        self._pace = pace or Pace(requests_per_minute, tokens_per_minute)
        self.client: Any = None if offline else make_client(base_url, key_name, timeout)

    @property
    def name(self) -> str:
        return f"openai:{self.chat.model}"

    @property
    def settings(self) -> Mapping[str, Any]:
        return dataclasses.asdict(self.chat)

    @property
    def used(self) -> dict[str, Any]:
        """What is sent besides the question, and where; see `judge.plain_settings`."""
        sent = {"api": "chat", "max_tokens_field": "max_completion_tokens", "system": "system"}
        return {**dataclasses.asdict(self.chat), "base_url": self._address, **sent}

    def worst_usd(self, question: Question) -> float:
        return ATTEMPTS * self.worst_of_one(question)

    def worst_of_one(self, question: Question) -> float:
        """The most that one request can cost, in US dollars."""
        tokens = most_tokens(question, self.facts.picture_tokens)
        return self.facts.cost(tokens, self.chat.max_tokens)

    def tokens(self, question: Question) -> int:
        """About as many input tokens as one request has."""
        return estimate_tokens(question, self.facts.picture_tokens)

    def halt(self) -> None:
        self._pace.halt()

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()

    async def ask(self, question: Question) -> Verdict:
        """The model's answer; an answer that cannot be read is asked for again.

        Raises:
            ConfigError: for a wrong key, model or setting, no money, or an answer of another
                model than was asked.
            BusyError: after `halt`.
        """
        try:
            return await self._ask(question)
        except ConfigError:
            self.halt()
            raise

    def check_model(self, model: str) -> None:
        """Raises ConfigError if a server's answer is of another model than was asked."""
        echo = self._echo
        if echo == "any" or not model or model == echo or model.startswith(f"{echo}-20"):
            return
        raise ConfigError(
            f"asked {self.chat.model!r}, and {model!r} answered: scores of several models do not "
            f"go together; set model_echo={model} if that is the same one"
        )

    async def _ask(self, question: Question) -> Verdict:
        tally = _Tally(self, question)
        body = self.chat.body(question)
        load = self.tokens(question) + self.chat.max_tokens
        while True:
            await self._pace.turn(load)
            answer = await self._send(body, question)
            if isinstance(answer, Reply):
                tally.count_reply(answer)
                self.check_model(answer.model)
                if answer.status != "invalid" or tally.paid >= ATTEMPTS:
                    return tally.verdict(answer)
                continue
            tally.count_failure(answer)
            if answer.kind == "filtered":
                return tally.verdict(Reply("content_filter", text=answer.text))
            if answer.kind == "refused" or tally.given_up:
                return tally.verdict(Reply("http_error", text=answer.text))
            await self._wait(answer, tally)

    async def _send(self, body: dict[str, Any], question: Question) -> Reply | Failure:
        try:
            response = await self.client.chat.completions.with_raw_response.create(**body)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            return read_failure(error)
        return read_reply(response.text, question.prompt)

    async def _wait(self, failure: Failure, tally: "_Tally") -> None:
        if failure.wait is None:
            wait = back_off(tally.waits if failure.kind == "limited" else tally.failures)
        else:
            wait = failure.wait
        if wait > _LONG_WAIT:
            _log.warning("the server asks to wait %.0f s (%s)", wait, failure.text)
        if failure.kind == "limited":
            self._pace.pause(wait)  # it holds for all
        else:
            await self._pace.wait(wait)


class _Tally:
    """What the requests for one question came to."""

    def __init__(self, judge: OpenAIJudge, question: Question):
        self._judge = judge
        self._question = question
        self._usage: dict[str, int] = {}
        self._usd = 0.0
        self._requests = 0
        self.paid = 0
        self.failures = 0
        self.waits = 0

    @property
    def given_up(self) -> bool:
        return self.paid >= ATTEMPTS or self.failures >= _FAILURES or self.waits >= _WAITS

    def count_reply(self, reply: Reply) -> None:
        self._requests += 1
        self.paid += 1
        if reply.usage:
            for name, tokens in reply.usage.items():
                self._usage[name] = self._usage.get(name, 0) + tokens
            self._usd += self._judge.facts.cost(**reply.usage)
        else:
            self._usd += self._judge.worst_of_one(self._question)

    def count_failure(self, failure: Failure) -> None:
        self._requests += 1
        self.waits += failure.kind == "limited"
        self.failures += failure.kind in ("broken", "lost")
        if failure.kind == "lost":
            self.paid += 1
            self._usd += self._judge.worst_of_one(self._question)

    def verdict(self, reply: Reply) -> Verdict:
        return verdict_for(
            self._judge,
            self._question,
            reply.status,
            used=self._judge.used,
            score=reply.score,
            passed=reply.passed,
            text=reply.text,
            raw=reply.raw,
            model=reply.model,
            usage=self._usage,
            usd=self._usd,
            requests=self._requests,
        )
