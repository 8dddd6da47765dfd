"""Reading a judge's answer: strictly, and without running anything.

An answer is one object with exactly the keys that were asked for. It is written as JSON, as the
schema of `json_schema` makes a server write it, or as the Python dictionary of the paper's prompts;
it may stand in double quotes, as in the paper's example, or in a code fence. Anything else, and any
number out of range, is no answer: nothing is guessed.
"""

import dataclasses
import re
from typing import Any

from mre_jax.judges.prompt_pack import Answer

_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*?)\n?\s*```", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,30})?(?![\w.])", re.ASCII)
_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "/": "/", '"': '"', "'": "'"
}  # fmt: skip
_SPACE = " \t\r\n"
_LONGEST = 100_000


class UnreadableError(Exception):
    """An answer that is not of the form; the message says why."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """An answer that was read.

    Attributes:
        score: the number, or what the numbers combine to; an int where all are.
        passed: of the "yes" or "no"; None where it was not asked for.
        text: what the judge says; "" where it was not asked for.
    """

    score: float
    passed: bool | None
    text: str


def parse_answer(text: str, answer: Answer) -> Parsed:
    """Reads an answer.

    Raises:
        UnreadableError: if it is of another form or out of range.
    """
    if len(text) > _LONGEST:
        raise UnreadableError(f"{len(text)} characters")
    values = _Reader(_unwrap(text)).object()
    if set(values) != set(answer.keys):
        raise UnreadableError(f"keys {', '.join(map(repr, values))}")
    scores = [_score(key, values[key], answer) for key in answer.scores]
    score = min(scores) if answer.combine == "min" else sum(scores) / len(scores)
    passed = None
    if answer.passed is not None:
        word = values[answer.passed]
        if not isinstance(word, str) or word.strip().casefold() not in ("yes", "no"):
            raise UnreadableError(f"{answer.passed!r} is {word!r:.40}, neither 'yes' nor 'no'")
        passed = word.strip().casefold() == "yes"
    said = values[answer.text] if answer.text is not None else ""
    if not isinstance(said, str):
        raise UnreadableError(f"{answer.text!r} is no text")
    return Parsed(score, passed, said)


def json_schema(answer: Answer) -> dict[str, Any]:
    """The answer's form as a JSON schema of the kind that servers enforce."""
    properties: dict[str, Any] = {}
    for key in answer.keys:
        if key == answer.passed:
            properties[key] = {"type": "string", "enum": ["yes", "no"]}
        elif key == answer.text:
            properties[key] = {"type": "string"}
        elif answer.integer:
            values = list(range(int(answer.low), int(answer.high) + 1))
            properties[key] = {"type": "integer", "enum": values}
        else:
            properties[key] = {"type": "number"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(answer.keys),
        "additionalProperties": False,
    }


def _score(key: str, value: int | float | str, answer: Answer) -> int | float:
    if type(value) is not int and (answer.integer or type(value) is not float):
        want = "whole number" if answer.integer else "number"
        raise UnreadableError(f"{key!r} is {value!r:.40}, no {want}")
    if not answer.low <= value <= answer.high:
        raise UnreadableError(f"{key!r} is {value!r}, not in {answer.low} to {answer.high}")
    return value


def _unwrap(text: str) -> str:
    """Without a code fence, and without double quotes around all of it."""
    text = text.strip(_SPACE)
    fenced = _FENCE.fullmatch(text)
    if fenced:
        text = fenced[1].strip(_SPACE)
    if text.startswith('"') and text.endswith('"') and text[1:-1].strip(_SPACE)[:1] == "{":
        text = text[1:-1].strip(_SPACE)
    return text


class _Reader:
    """Reads an object of texts and numbers, in JSON's spelling or in Python's."""

    def __init__(self, text: str):
        self._text = text
        self._at = 0

    def object(self) -> dict[str, int | float | str]:
        values: dict[str, int | float | str] = {}
        self._expect("{")
        while not self._take("}"):
            if values:
                self._expect(",")
                if self._take("}"):
                    break
            key = self._string()
            if key in values:
                raise UnreadableError(f"key {key!r:.40} stands in it twice")
            self._expect(":")
            values[key] = self._value()
        self._skip()
        if self._at < len(self._text):
            raise UnreadableError(f"{self._text[self._at :]!r:.40} after the object")
        return values

    def _value(self) -> int | float | str:
        self._skip()
        match = _NUMBER.match(self._text, self._at)
        if not match:
            return self._string()
        self._at = match.end()
        return float(match[0]) if "." in match[0] else int(match[0])

    def _string(self) -> str:
        self._skip()
        quote = self._next()
        if quote not in ("'", '"'):
            raise UnreadableError(f"{quote!r} where a text is wanted")
        parts = []
        while (character := self._next()) != quote:
            if character < " ":
                raise UnreadableError("a line break or control character within a text")
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
        if self._at >= len(self._text):
            raise UnreadableError("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1

    def _take(self, character: str) -> bool:
        self._skip()
        taken = self._text[self._at : self._at + 1] == character
        self._at += taken
        return taken

    def _expect(self, character: str) -> None:
        if not self._take(character):
            found = self._text[self._at : self._at + 20] or "its end"
            raise UnreadableError(f"{found!r} where {character!r} is wanted")
