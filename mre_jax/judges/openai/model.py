"""A model behind a server of OpenAI's protocol, and the one loop of requests that cost money."""

import asyncio
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, TypeVar

from mre_jax.errors import BusyError, ConfigError, MreError
from mre_jax.judges.openai.client import KEY, make_client, server_address
from mre_jax.judges.openai.failure import Failure, read_failure, remedy
from mre_jax.judges.openai.model_facts import model_facts
from mre_jax.judges.openai.pace import Pace, back_off
from mre_jax.judges.openai.reply import Reply, Said, read_said
from mre_jax.judges.openai.request import (
    APIS,
    FORMS,
    SYSTEMS,
    TOKEN_FIELDS,
    Message,
    RequestSettings,
)

ATTEMPTS = 3
"""Requests for one answer that may be paid for: answered, or not known to be unanswered."""

_FAILURES = 8  # requests for one answer that were not answered
_FAILURES_AT_FIRST = 3  # to connect to a server that has not answered before
_WAITS = 50  # times that the server asks to wait
_LONG_WAIT = 60.0
_PATIENCE = {"lost": 1}  # so many requests without an answer are logged, once a kind
_SHORT_ANSWER, _LONG_ANSWER = 300, 4000

_LATER = {"api": "chat", "system": "system"}
"""Settings that older journals do not have, and what was sent then."""

_T = TypeVar("_T")
_log = logging.getLogger("mre_jax.judges")


@dataclasses.dataclass
class Tally:
    """What the requests for one answer came to.

    Attributes:
        worst: the most that one of them can cost, in US dollars.
        attempts: requests that may be paid for.
        usage: tokens of all: "prompt_tokens", "completion_tokens".
        usd: cost of all; a request without an answer counts at its most.
        requests: requests that were sent.
        paid: requests that are paid for, or may be.
        failures: requests that were not answered.
        waits: requests that the server put off.
        sent: settings of the last one.
    """

    worst: float = 0.0
    attempts: int = ATTEMPTS
    usage: dict[str, int] = dataclasses.field(default_factory=dict)
    usd: float = 0.0
    requests: int = 0
    paid: int = 0
    failures: int = 0
    waits: int = 0
    sent: RequestSettings | None = None

    @property
    def given_up(self) -> bool:
        return self.paid >= self.attempts or self.failures >= _FAILURES or self.waits >= _WAITS

    def count_answer(self, usage: Mapping[str, int], usd: float) -> None:
        self.requests += 1
        self.paid += 1
        self.usd += usd
        for name, tokens in usage.items():
            self.usage[name] = self.usage.get(name, 0) + tokens

    def count_failure(self, failure: Failure) -> None:
        self.requests += 1
        self.waits += failure.kind == "limited"
        self.failures += failure.kind in ("broken", "lost")
        if failure.kind == "lost":
            self.paid += 1
            self.usd += self.worst


class Model:
    """Asks a server for chat completions, or for responses.

    What a server refuses is not tried twice. The name of a field that has two is changed once by
    itself, the form only if it may be; `request` is what is sent.

    Args:
        model: name that the server knows.
        base_url: address of another server than OpenAI's: vLLM, Azure's v1 path, anything
            compatible.
        key_name: environment variable that holds the key.
        api, seed, detail, system: see `RequestSettings`.
        form: see `RequestSettings`; or "auto": the first that the server takes.
        temperature: "auto" is 0 for models that take one; None sends none.
        max_tokens: tokens of an answer; by default 300, or 4000 for a model that thinks.
        max_tokens_field: see `RequestSettings`; "auto" is the first that the server takes.
        model_echo: what the server must call the model in its answers, or begin with before a
            date; by default `model`. "any" takes every name.
        usd: price of a million input and output tokens, instead of the known one.
        requests_per_minute, tokens_per_minute: limits to keep to.
        timeout: seconds for one request.
        pace: replaces the one that these limits make.
        offline: for estimates: needs no key, and sends nothing.

    Attributes:
        facts: what is known of the model.
        request: settings of the next request.
        pace: when it may be sent.
        client: client of the server; None offline.

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
        self.facts = model_facts(model, usd)
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
        self._logged: set[str] = set()
        self._echo = model_echo or model
        self._address = server_address(base_url)
        self.pace = pace or Pace(requests_per_minute, tokens_per_minute)
        self.client: Any = None if offline else make_client(base_url, key_name, timeout)

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

    def recorded(self, sent: RequestSettings | None = None) -> dict[str, Any]:
        """What is sent besides the message, and where; by default with the next request."""
        sent = sent or self.request
        values = dataclasses.asdict(sent)
        if sent.api == "responses":
            values["max_tokens_field"] = "max_output_tokens"
        return {**values, "base_url": self._address}

    def tokens(self, message: Message) -> int:
        """About as many input tokens as one request has."""
        return message.tokens(self._picture_tokens)

    def worst_usd(self, message: Message, most: int = 0) -> float:
        """The most that one request can cost, in US dollars; `most` as in `answer`."""
        tokens = message.most_tokens(self._picture_tokens)
        return self.facts.cost(tokens, max(most, self.request.max_tokens))

    def _picture_tokens(self, width: int, height: int) -> int:
        return self.facts.picture_tokens(width, height, self.request.detail)

    async def answer(
        self, message: Message, read: Callable[[Said], Reply], *, most: int = 0
    ) -> tuple[Reply, Tally]:
        """A reply that is read, or why there is none; one that is "invalid" is asked for again.

        Args:
            read: what an answer comes to.
            most: tokens of the answer, if more than those of the settings.

        Raises:
            ConfigError: for a wrong key, model or setting, no money, or an answer of another
                model than was asked.
            BusyError: after the pace's `halt`, or if there is no server at the address.
        """
        tally = Tally(self.worst_usd(message, most))
        load = self.tokens(message) + max(most, self.request.max_tokens)
        raw: str | None = None

        async def send() -> Said | Failure:
            settings = self.request
            settings = dataclasses.replace(settings, max_tokens=max(most, settings.max_tokens))
            tally.sent = settings
            responses = settings.api == "responses"
            api = self.client.responses if responses else self.client.chat.completions
            response = await api.with_raw_response.create(**settings.body(message))
            return read_said(response.content)

        while True:
            said = await self.insist(send, tally, load)
            if isinstance(said, Failure):
                return Reply.of(said), tally
            reply = read(said)
            usage = reply.usage
            tally.count_answer(usage, self.facts.cost(**usage) if usage else tally.worst)
            self.check_model(reply.model)
            same, raw = reply.raw == raw, reply.raw  # and would be so once more
            if reply.status != "invalid" or same or tally.given_up:
                return reply, tally

    async def insist(
        self, send: Callable[[], Awaitable[_T | Failure]], tally: Tally, load: int = 0
    ) -> _T | Failure:
        """Sends until there is an answer, or a failure that is final or one too many.

        Args:
            send: sends once; its errors are read as the client's.
            tally: counts what fails.
            load: tokens of one request.

        Raises:
            as `answer`.
        """
        while True:
            await self.pace.turn(load)
            used = self.request
            try:
                answer = await send()
            except (asyncio.CancelledError, MreError):
                raise
            except Exception as error:
                answer = read_failure(error)
            if not isinstance(answer, Failure):
                self._answered = True
                return answer
            tally.count_failure(answer)
            if answer.about == "address" and not self._answered:
                self._check_address(answer, tally)
            if answer.kind == "stop":
                self._adapt(answer, used)
                continue
            if answer.kind in ("filtered", "refused") or tally.given_up:
                return answer
            await self._wait(answer, tally)

    def check_model(self, name: str) -> None:
        """Raises ConfigError if a server's answer is of another model than was asked."""
        echo = self._echo
        if echo == "any" or not name or name == echo or name.startswith(f"{echo}-20"):
            return
        raise ConfigError(
            f"asked {self.request.model!r}, and {name!r} answered: scores of several models do "
            f"not go together; give --judge-option model_echo={name} if that is the same one"
        )

    def remedy(self, failure: Failure) -> str:
        """What to do about a failure that every other request would have."""
        return remedy(failure, self.request, self._address, self._key_name)

    def _adapt(self, failure: Failure, used: RequestSettings) -> None:
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

    def _check_address(self, failure: Failure, tally: Tally) -> None:
        """Ends a run that no answer has come of yet, before all its questions wait for one."""
        if failure.kind == "lost" and tally.paid > 1:
            raise ConfigError(self.remedy(failure))
        if failure.kind == "broken" and tally.failures >= _FAILURES_AT_FIRST:
            raise BusyError(
                f"no server answers at {self._address} ({failure.text}); check base_url, or run "
                "it again when it is there"
            )

    async def _wait(self, failure: Failure, tally: Tally) -> None:
        tries = tally.waits if failure.kind == "limited" else tally.failures
        wait = back_off(tries) if failure.wait is None else failure.wait
        if wait > _LONG_WAIT:
            _log.warning("the server asks to wait %.0f s (%s)", wait, failure.text)
        elif tries >= _PATIENCE.get(failure.kind, 4) and failure.kind not in self._logged:
            self._logged.add(failure.kind)
            _log.warning("no answer yet after %d requests (%s)", tries, failure.text)
        if failure.kind == "limited":
            self.pace.pause(wait)  # it holds for all
        else:
            await self.pace.wait(wait)

    async def close(self) -> None:
        """Closes the connections."""
        if self.client is not None:
            await self.client.close()


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
