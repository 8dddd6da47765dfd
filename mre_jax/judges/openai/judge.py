"""A model behind a server of OpenAI's protocol as a judge, one request a question."""

import asyncio
import dataclasses
import logging
import math
from collections.abc import Collection, Mapping
from typing import Any

from mre_jax.errors import BusyError, ConfigError, MreError
from mre_jax.judges.judge import verdict_for
from mre_jax.judges.openai.client import KEY, make_client, server_address
from mre_jax.judges.openai.failure import Failure, read_failure
from mre_jax.judges.openai.model_facts import ModelFacts, model_facts
from mre_jax.judges.openai.pace import Pace, back_off
from mre_jax.judges.openai.remedy import remedy
from mre_jax.judges.openai.reply import Reply, Said, read_reply, read_said
from mre_jax.judges.openai.request import (
    APIS,
    FORMS,
    SYSTEMS,
    TOKEN_FIELDS,
    Message,
    RequestSettings,
)
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

ATTEMPTS = 3
"""Requests for one question that may be paid for: answered, or not known to be unanswered."""

_FAILURES = 8  # requests for one question that were not answered
_FAILURES_AT_FIRST = 3  # to connect to a server that has not answered before
_WAITS = 50  # times that the server asks to wait
_LONG_WAIT = 60.0
_PATIENCE = {"lost": 1}  # so many requests without an answer are told of, once a kind
_SHORT_ANSWER, _LONG_ANSWER = 300, 4000

_LATER = {"api": "chat", "system": "system"}
"""Settings that older journals do not have, and what was sent then."""

_log = logging.getLogger("mre_jax.judges")


class OpenAIJudge:
    """Asks a server for chat completions, or for responses.

    What a server refuses is not tried twice. The name of a field that has two is changed once by
    itself, the form only if it may be; `used` tells what is sent.

    Args:
        model: name that the server knows.
        base_url: of another server than OpenAI's: vLLM, Azure's v1 path, anything compatible.
        key_name: environment variable that holds the key.
        api, seed, detail, system: see `RequestSettings`.
        form: likewise, or "auto": the first that the server takes.
        temperature: "auto" is 0 for models that take one; None sends none.
        max_tokens: of an answer; by default 300, or 4000 for a model that thinks.
        max_tokens_field: see `RequestSettings`; "auto" is the first that the server takes.
        model_echo: what the server must call the model in its answers, or begin with before a
            date; by default `model`. "any" takes every name.
        usd: price of a million input and output tokens, instead of the known one.
        requests_per_minute, tokens_per_minute: limits to keep to.
        timeout: seconds for one request.
        pace: replaces the one that these limits make.
        offline: for estimates: needs no key, and sends nothing.

    Raises:
        ConfigError: for an unknown word, a number out of range, a missing key or package.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_name: str = KEY,
        api: str = "chat",
        form: str = "schema",
        temperature: float | str | None = "auto",
        max_tokens: int | None = None,
        max_tokens_field: str = "auto",
        system: str = "system",
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
        _check_word("api", api, APIS)
        _check_word("form", form, ("auto", *FORMS))
        _check_word("max_tokens_field", max_tokens_field, ("auto", *TOKEN_FIELDS))
        _check_word("system", system, SYSTEMS)
        _check_word("detail", detail, (None, "low", "high", "auto"))
        degrees: Any = temperature
        if temperature == "auto":
            degrees = None if self.facts.reasoning else 0.0
        if max_tokens is None:
            max_tokens = _LONG_ANSWER if self.facts.thinks else _SHORT_ANSWER
        _check_number("temperature", degrees, "a number, null or auto", least=0.0)
        _check_number("max_tokens", max_tokens, "a whole number of 1 or more", least=1)
        _check_number("timeout", timeout, "more than 0", least=1e-9)
        _check_number("seed", seed, "a whole number or null", least=-(2**63))
        if api == "responses" and seed is not None:
            raise ConfigError("seed: the Responses API takes none; set seed=null or api=chat")
        asked = RequestSettings(
            model, max_tokens, form, degrees, seed, detail, api, max_tokens_field, system
        )
        self._asked = asked
        self._may_change: dict[str, list[Any]] = {
            "form": list(FORMS) if form == "auto" else [],
            "max_tokens_field": list(TOKEN_FIELDS) if max_tokens_field == "auto" else [],
        }
        self.request = dataclasses.replace(
            asked, **{name: values[0] for name, values in self._may_change.items() if values}
        )
        self._key_name = key_name
        self._answered = False
        self._told: set[str] = set()
        self._echo = model_echo or model
        self._address = server_address(base_url)
        self._pace = pace or Pace(requests_per_minute, tokens_per_minute)
        self.client: Any = None if offline else make_client(base_url, key_name, timeout)

    @property
    def name(self) -> str:
        return f"openai:{self.request.model}"

    @property
    def settings(self) -> Mapping[str, Any]:
        """As asked for, so that an answer is found again whatever the server has taken."""
        values = dataclasses.asdict(self._asked)
        del values["max_tokens_field"]  # the same answer under two names
        return {
            name: value
            for name, value in values.items()
            if name not in _LATER or value != _LATER[name]
        }

    @property
    def used(self) -> dict[str, Any]:
        """What is sent besides the question, and where; see `judge.plain_settings`."""
        return self._plain(self.request)

    def _plain(self, sent: RequestSettings) -> dict[str, Any]:
        values = dataclasses.asdict(sent)
        if sent.api == "responses":
            values["max_tokens_field"] = "max_output_tokens"
        return {**values, "base_url": self._address}

    def worst_usd(self, question: Question) -> float:
        return ATTEMPTS * self.worst_of_one(question)

    def worst_of_one(self, question: Question) -> float:
        """The most that one request can cost, in US dollars."""
        tokens = Message.of(question).most_tokens(self._picture_tokens)
        return self.facts.cost(tokens, self.request.max_tokens)

    def tokens(self, question: Question) -> int:
        """About as many input tokens as one request has."""
        return Message.of(question).tokens(self._picture_tokens)

    def _picture_tokens(self, width: int, height: int) -> int:
        return self.facts.picture_tokens(width, height, self.request.detail)

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
            BusyError: after `halt`, or if there is no server at the address.
        """
        try:
            return await self._ask(question)
        except MreError:
            self.halt()
            raise

    def check_model(self, model: str) -> None:
        """Raises ConfigError if a server's answer is of another model than was asked."""
        echo = self._echo
        if echo == "any" or not model or model == echo or model.startswith(f"{echo}-20"):
            return
        raise ConfigError(
            f"asked {self.request.model!r}, and {model!r} answered: scores of several models do "
            f"not go together; give --judge-option model_echo={model} if that is the same one"
        )

    async def complete(self, message: Message, most: int = 0) -> Said | Failure:
        """Sends one message, and again where the server wants a setting otherwise.

        Args:
            most: tokens of the answer, if more than those of the judge.

        Raises:
            ConfigError: for what every other message would fail of.
        """
        while True:
            used = self.request
            sent = dataclasses.replace(used, max_tokens=max(most, used.max_tokens))
            answer = await self._send(sent, message)
            if not (isinstance(answer, Failure) and answer.kind == "stop"):
                return answer
            self.adapt(answer, used)

    def adapt(self, failure: Failure, used: RequestSettings) -> None:
        """Changes the setting that a server refused in a request with these.

        Raises:
            ConfigError: if it may not be changed, or the fault is another; it says what to do.
        """
        name = failure.about
        values = self._may_change.get(name, [])
        later = values[values.index(getattr(used, name)) + 1 :] if values else []
        if name == "max_tokens_field" and values and not later:
            raise ConfigError(f"the server takes neither {' nor '.join(values)} ({failure.text})")
        if not later or (name, self.request.api) == ("max_tokens_field", "responses"):
            raise ConfigError(self.remedy(failure))
        if getattr(self.request, name) == getattr(used, name):  # no other answer has changed it
            self.request = dataclasses.replace(self.request, **{name: later[0]})
            _log.warning("the server refuses %s (%s); %s is sent", name, failure.text, later[0])

    def remedy(self, failure: Failure) -> str:
        """What to do about a failure that every other request would have."""
        return remedy(failure, self.request, self._address, self._key_name)

    async def _ask(self, question: Question) -> Verdict:
        tally = _Tally(self, question)
        message = Message.of(question)
        load = self.tokens(question) + self.request.max_tokens
        raw: str | None = None
        while True:
            await self._pace.turn(load)
            used = self.request
            answer = await self._send(used, message)
            if isinstance(answer, Said):
                self._answered = True
                reply = read_reply(answer, question.prompt)
                tally.count_reply(reply)
                self.check_model(reply.model)
                same, raw = reply.raw == raw, reply.raw  # and would be so once more
                if reply.status != "invalid" or same or tally.given_up:
                    return tally.verdict(reply, self._plain(used))
                continue
            tally.count_failure(answer)
            if answer.about == "address" and not self._answered:
                self._check_address(answer, tally)
            if answer.kind == "stop":
                self.adapt(answer, used)
                continue
            if answer.kind in ("filtered", "refused"):
                status = "content_filter" if answer.kind == "filtered" else "rejected"
                return tally.verdict(Reply(status, text=answer.text), self._plain(used))
            if tally.given_up:
                return tally.verdict(Reply("http_error", text=answer.text), self._plain(used))
            await self._wait(answer, tally)

    def _check_address(self, failure: Failure, tally: "_Tally") -> None:
        """Ends a run that no answer has come of yet, before all its questions wait for one."""
        if failure.kind == "lost" and tally.paid > 1:
            raise ConfigError(self.remedy(failure))
        if failure.kind == "broken" and tally.failures >= _FAILURES_AT_FIRST:
            raise BusyError(
                f"no server answers at {self._address} ({failure.text}); check base_url, or run "
                "it again when it is there"
            )

    async def _send(self, settings: RequestSettings, message: Message) -> Said | Failure:
        api = self.client.responses if settings.api == "responses" else self.client.chat.completions
        try:
            response = await api.with_raw_response.create(**settings.body(message))
            return read_said(response.content)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            return read_failure(error)

    async def _wait(self, failure: Failure, tally: "_Tally") -> None:
        tries = tally.waits if failure.kind == "limited" else tally.failures
        wait = back_off(tries) if failure.wait is None else failure.wait
        if wait > _LONG_WAIT:
            _log.warning("the server asks to wait %.0f s (%s)", wait, failure.text)
        elif tries >= _PATIENCE.get(failure.kind, 4) and failure.kind not in self._told:
            self._told.add(failure.kind)
            _log.warning("no answer yet after %d requests (%s)", tries, failure.text)
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

    def verdict(self, reply: Reply, used: Mapping[str, Any]) -> Verdict:
        return verdict_for(
            self._judge,
            self._question,
            reply.status,
            used=used,
            score=reply.score,
            passed=reply.passed,
            text=reply.text,
            raw=reply.raw,
            model=reply.model,
            usage=self._usage,
            usd=self._usd,
            requests=self._requests,
        )


def _check_word(name: str, value: Any, known: Collection[str | None]) -> None:
    if value not in known:
        want = ", ".join("null" if word is None else word for word in known)
        raise ConfigError(f"{name} {value!r}: want {want}")


def _check_number(name: str, value: Any, want: str, *, least: float) -> None:
    whole = "whole" in want
    if value is None and "null" in want:
        return
    number = isinstance(value, int) or (isinstance(value, float) and not whole)
    if isinstance(value, bool) or not number or not least <= value < math.inf:
        raise ConfigError(f"{name} {value!r}: want {want}")
