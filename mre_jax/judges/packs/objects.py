"""The object that a model's answer holds, found without guessing and without running anything.

It is written as JSON or as a Python dictionary. It may stand in double quotes, as in the paper's
example, in a code fence, among words, or after what the model thought.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*?)\n?\s*```", re.DOTALL)
NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,30})?(?:[eE][-+]?\d{1,3})?(?![\w.])", re.ASCII)
_WORD = re.compile(r"(true|false|null|True|False|None)(?!\w)", re.ASCII)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_THOUGHT = re.compile(r"[<\u25c1](/?)(?:think|thinking|thought|reasoning)[>\u25b7]", re.IGNORECASE)
_SORRY = re.compile(
    r"\W*(?:(?:i(?:[\u2019']m| am) )?(?:very |so |really )?sorry|i apologi[sz]e|as an ai\b|"
    r"\u62b1\u6b49|\u5f88\u62b1\u6b49|\u5bf9\u4e0d\u8d77)",
    re.IGNORECASE,
)
_DECLINES = re.compile(
    r"\b(?:i|we)(?:[\u2019']m|[\u2019']re| am| are| must)? ?"
    r"(?:can(?:no|[\u2019'])t|can not|unable to|not able to|won[\u2019']t|will not|decline to)"
    r"(?: \w+){0,3}? (?:assist|help|evaluat|rat|judg|scor|comply|provid|process|analy[sz]|view|see|"
    r"assess|compar|discuss|fulfil|answer|respond|identify|do)",
    re.IGNORECASE,
)
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "/": "/", '"': '"', "'": "'"
}  # fmt: skip
SPACE = " \t\r\n"
_LONGEST = 100_000
_DEEPEST = 16  # objects and lists in one another

_T = TypeVar("_T")


class UnreadableError(Exception):
    """An answer that is not of the form; the message says why."""


class RefusedError(UnreadableError):
    """An answer in plain words that declines to judge."""


def object_with(text: str, keys: Sequence[str]) -> dict[str, Any]:
    """The one object of a text that carries all these keys.

    Example:
        >>> object_with("Sure! ```{'score': 4, 'bad': 'blurred'}```", ["score"])
        {'score': 4}

    Raises:
        RefusedError: if the text says, in words alone, that the model will not answer.
        UnreadableError: if there is no such object, or there are two that differ.
    """
    return only(objects_with(text, keys))


def only(found: Sequence[_T]) -> _T:
    """The one value of several that are equal.

    Raises:
        UnreadableError: if they differ.
    """
    if any(other != found[0] for other in found):
        raise UnreadableError(f"{len(found)} answers that differ")
    return found[0]


def objects_with(text: str, keys: Sequence[str], alone: bool = False) -> list[dict[str, Any]]:
    """All objects with these keys, at least one.

    Args:
        alone: whether the object must be all of the text, but for quotes or a fence around it.

    Raises:
        RefusedError, UnreadableError: as `object_with`.
    """
    if len(text) > _LONGEST:
        raise UnreadableError(f"{len(text)} characters")
    reasons = []
    for form in _forms(text):
        try:
            return _found(form, keys, alone)
        except UnreadableError as error:
            reasons.append(error)
    raise reasons[0]


def _forms(text: str) -> Iterator[str]:
    """The text without a code fence and quotes around all of it; then as what a JSON text says."""
    text = text.strip(f"{SPACE}\ufeff")
    fenced = _FENCE.fullmatch(text)
    if fenced:
        text = fenced[1].strip(SPACE)
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and text[1:-1].strip(SPACE)[:1] == "{"
    yield text[1:-1].strip(SPACE) if quoted else text
    if quoted:
        with contextlib.suppress(ValueError):
            yield json.loads(text, strict=False).strip(SPACE)


def _found(text: str, keys: Sequence[str], alone: bool) -> list[dict[str, Any]]:
    try:  # all of it is the answer, whatever its texts hold
        found = list(_carriers(_Reader(text).whole(), keys))
        reason = "none of its keys is wanted" if not found else ""
    except UnreadableError as error:
        found, reason = [], str(error)
    if not found and not alone:
        text = after_thought(text)
        found = list(_among_words(text, keys))
    if not found and "{" not in text and (_SORRY.match(text) or _DECLINES.search(text)):
        raise RefusedError(text[:300])
    if not found:
        raise UnreadableError(reason if text else "nothing")
    return found


def after_thought(text: str) -> str:
    """What follows the last thought; a server's template may have written its beginning."""
    marks = list(_THOUGHT.finditer(text))
    if marks and not marks[-1][1]:
        raise UnreadableError("a thought that does not end")
    return text[marks[-1].end() :].strip(SPACE) if marks else text


def _among_words(text: str, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    at = text.find("{")
    while at >= 0:
        reader = _Reader(text, at)
        try:
            yield from _carriers(reader.object(), keys)
            at = text.find("{", reader.at)
        except UnreadableError:
            if reader.keys:  # what is in half an object is no object
                raise
            at = text.find("{", at + 1)


def _carriers(values: Any, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The outermost objects with all these keys, in any case, in what was read."""
    if isinstance(values, list):
        for value in values:
            yield from _carriers(value, keys)
    elif isinstance(values, dict):
        named = {key.strip().casefold(): value for key, value in values.items()}
        if len(named) < len(values):
            raise UnreadableError(f"a key twice among {', '.join(map(repr, values))}")
        if all(key.casefold() in named for key in keys):
            yield {key: named[key.casefold()] for key in keys}
        else:
            yield from _carriers(list(values.values()), keys)


def read_number(text: str) -> int | float | None:
    """The number that all of a text is; None if it is none."""
    match = NUMBER.fullmatch(text)
    if match is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


class _Reader:
    """Reads an object in JSON's spelling or in Python's.

    Attributes:
        at: where it stands.
        keys: how many it has read.
    """

    def __init__(self, text: str, at: int = 0):
        self._text = text
        self._depth = 0
        self.at = at
        self.keys = 0

    def whole(self) -> Any:
        """The object or list that all of the text is."""
        value = self._list() if self._peek() == "[" else self.object()
        self._skip()
        if self.at < len(self._text):
            raise UnreadableError(f"{self._text[self.at :]!r:.40} after the object")
        return value

    def object(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for _ in self._entries("{", "}"):
            key = self._string()
            if key in values:
                raise UnreadableError(f"key {key!r:.40} stands in it twice")
            self._expect(":")
            self.keys += 1
            values[key] = self._value()
        return values

    def _list(self) -> list[Any]:
        return [self._value() for _ in self._entries("[", "]")]

    def _entries(self, opening: str, closing: str) -> Iterator[None]:
        """Stops at every entry, past the comma before it."""
        self._expect(opening)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise UnreadableError("too deep")
        first = True
        while not self._take(closing):
            if not first:
                self._expect(",")
                if self._take(closing):
                    break
            yield
            first = False
        self._depth -= 1

    def _value(self) -> Any:
        if self._peek() == "{":
            return self.object()
        if self._peek() == "[":
            return self._list()
        if match := NUMBER.match(self._text, self.at):
            self.at = match.end()
            return read_number(match[0])
        if match := _WORD.match(self._text, self.at):
            self.at = match.end()
            return _WORDS[match[0]]
        return self._string()

    def _string(self) -> str:
        self._skip()
        quote = self._next()
        if quote not in ("'", '"'):
            raise UnreadableError(f"{quote!r} where a text is wanted")
        parts = []
        while (character := self._next()) != quote:
            if character < " " and character not in SPACE:
                raise UnreadableError("a control character within a text")
            parts.append(self._escape() if character == "\\" else character)
        try:  # two escapes may spell one character of UTF-16
            return "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise UnreadableError("half a character in a text") from None

    def _escape(self) -> str:
        character = self._next()
        if character in _ESCAPES:
            return _ESCAPES[character]
        digits = {"u": 4, "x": 2, "U": 8}.get(character)
        code = "".join(self._next() for _ in range(digits or 0))
        if not digits or not re.fullmatch(r"(?:00(?:0|10))?[0-9A-Fa-f]{2,5}", code):
            raise UnreadableError(f"escape \\{character}{code} in a text")
        return chr(int(code, 16))

    def _next(self) -> str:
        if self.at >= len(self._text):
            raise UnreadableError("it ends too early")
        self.at += 1
        return self._text[self.at - 1]

    def _peek(self) -> str:
        self._skip()
        return self._text[self.at : self.at + 1]

    def _skip(self) -> None:
        while self.at < len(self._text) and self._text[self.at] in SPACE:
            self.at += 1

    def _take(self, character: str) -> bool:
        taken = self._peek() == character
        self.at += taken
        return taken

    def _expect(self, character: str) -> None:
        if not self._take(character):
            found = self._text[self.at : self.at + 20] or "its end"
            raise UnreadableError(f"{found!r} where {character!r} is wanted")
