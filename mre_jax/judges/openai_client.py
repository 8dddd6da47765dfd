"""The client of OpenAI and of compatible servers, and what its errors mean."""

import dataclasses
import datetime
import os
import urllib.parse
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.judges.pace import retry_after
from mre_jax.judges.redaction import guard, redact

KEY = "OPENAI_API_KEY"
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_FILTERED = ("content_filter", "content_policy_violation")
_SETTINGS = (
    "model", "temperature", "max_completion_tokens", "max_tokens", "response_format", "seed"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request without an answer.

    Attributes:
        kind: "limited" by the server, "broken" on the way or at the server (it was not answered),
            "lost" (it may have been answered, and be paid for), "filtered", "refused" (this
            request, and it would be again).
        text: one line.
        wait: seconds that the server asks for, if it does.
    """

    kind: str
    text: str
    wait: float | None = None


def make_client(base_url: str | None, key_name: str, timeout: float) -> Any:
    """An `openai.AsyncOpenAI` that sends every request once.

    The key is read from the environment only, and from then on kept out of log messages.

    Args:
        base_url: of another server than OpenAI's; by default OPENAI_BASE_URL.
        key_name: of the environment's variable that holds the key.
        timeout: seconds for one request.

    Raises:
        ConfigError: if the package is missing, or there is no key for OpenAI's own server.
    """
    try:
        import openai  # slow to import, and an option
    except ImportError:
        raise ConfigError(
            "this judge needs the package openai: pip install 'mre_jax[judge]'"
        ) from (None)
    base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
    key = os.environ.get(key_name, "").strip()
    if not key and base_url is None:
        raise ConfigError(
            f"no key: set the environment variable {key_name}, or give base_url of a server that "
            "needs none"
        )
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigError(f"the key in {key_name} holds characters that no key has")
    guard(key)
    try:
        return openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url, timeout=timeout, max_retries=0
        )
    except Exception as error:  # the package checks the address, and raises what its parser does
        raise ConfigError(f"base_url {base_url!r}: {redact(str(error))}") from None


def server_address(base_url: str | None) -> str:
    """The address that requests go to, as it may be written down: without user or password."""
    address = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def read_failure(error: Exception) -> Failure:
    """What an exception of the client means.

    Raises:
        ConfigError: if every other request would fail in the same way: a wrong key, model,
            address or setting, or no money.
    """
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Failure("lost", "no answer in time")
    if isinstance(error, openai.APIConnectionError):
        cause = redact(str(error.__cause__ or error)) or "connection lost"
        refused = (
            isinstance(error.__cause__, Exception) and "Connect" in type(error.__cause__).__name__
        )
        return Failure("broken" if refused else "lost", f"connection: {cause}")
    if not isinstance(error, openai.APIStatusError):
        return Failure("lost", redact(f"{type(error).__name__}: {error}"))
    status = error.status_code
    code, param = str(error.code or ""), str(error.param or "")
    text = redact(f"{status}: {error.message}".replace("\n", " "))[:300]
    if code in _NO_MONEY or str(error.type) in _NO_MONEY:
        raise ConfigError(f"the server says there is no money left ({text}); nothing more is sent")
    if status in (401, 403):
        raise ConfigError(f"the server refuses the key ({text}); check {KEY} and base_url")
    if status == 404:
        raise ConfigError(f"the server does not know model or path ({text})")
    if code in _FILTERED:
        return Failure("filtered", text)
    if status in (408, 409, 429) or status >= 500:
        now = datetime.datetime.now(datetime.UTC)
        wait = retry_after(error.response.headers, now)
        return Failure("limited" if status == 429 else "broken", text, wait)
    if param.split(".")[0] in _SETTINGS or code.startswith("unsupported"):
        raise ConfigError(f"the server refuses a setting ({text}); see --judge-option")
    return Failure("refused", text)
