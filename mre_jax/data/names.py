"""Ids of examples, which become names of files."""

import hashlib
import re

ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_DIGITS = 10


def safe_name(text: str) -> str:
    """The text as part of an id or a file name: letters, digits, ".", "_" and "-"."""
    name = _UNSAFE.sub("-", text).lstrip("._-")[:90]
    return name or "unnamed"


def safe_id(text: str) -> str:
    """An id for any text: the text if it is one, or else a safe name and some of its hash.

    Texts that differ have ids that differ, on every reading the same.
    """
    if ID.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{safe_name(text)[: 99 - _DIGITS]}-{digest[:_DIGITS]}"
