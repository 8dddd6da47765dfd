"""The client of OpenAI and of compatible servers, and its key, kept out of all that is written."""

import logging
import os
import re
import urllib.parse
from collections.abc import Callable
from typing import Any

from mre_jax.errors import ConfigError

KEY = "OPENAI_API_KEY"
OPENAI = "https://api.openai.com/v1"

_MASK = "[key]"
_KEYS = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{8,}|AIza[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9._-]{8,})"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"
)
_secrets: set[str] = set()


def make_client(base_url: str | None, key_name: str, timeout: float) -> Any:
    """An `openai.AsyncOpenAI` that sends every request once.

    The key is read from the environment only, and from then on kept out of log messages.

    Args:
        base_url: address of another server than OpenAI's; by default OPENAI_BASE_URL.
        key_name: environment variable that holds the key.
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
    if base_url is not None and not re.match(r"https?://[^/]", base_url):
        raise ConfigError(f"base_url {base_url!r}: want http://... or https://...")
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
    address = base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def guard(secret: str) -> None:
    """From now on keeps this text, and what looks like a key, out of log messages.

    Texts of fewer than 8 characters guard nothing and are left alone.
    """
    if len(secret) < 8:
        return
    if not _secrets:
        logging.setLogRecordFactory(_redacting(logging.getLogRecordFactory()))
    _secrets.add(secret)


def redact(text: str) -> str:
    """The text without guarded secrets and without what looks like a key."""
    for secret in _secrets:
        text = text.replace(secret, _MASK)
    return _KEYS.sub(_MASK, text)


def _redacting(make: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    def record(*args: object, **kwargs: object) -> logging.LogRecord:
        made = make(*args, **kwargs)
        try:
            message = made.getMessage()
        except (TypeError, ValueError):  # the logging module reports it
            return made
        if (clean := redact(message)) != message:
            made.msg, made.args = clean, None
        return made

    return record
