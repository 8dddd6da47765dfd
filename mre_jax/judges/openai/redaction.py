"""Keeping keys out of everything that is written."""

import logging
import re
from collections.abc import Callable

_MASK = "[key]"
_KEYS = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{8,}|hf_[A-Za-z0-9]{8,}|AIza[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9._-]{8,})"
    r"|(?i:\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}"
)
_secrets: set[str] = set()


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
