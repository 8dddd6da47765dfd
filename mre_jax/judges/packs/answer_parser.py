"""Reading a judge's answer: whatever can be read without guessing, and without running anything.

An answer is one object with the keys that were asked for. It is written as JSON, as the schema of
`json_schema` makes a server write it, or as the Python dictionary of the paper's prompts. It may
stand in double quotes, as in the paper's example, in a code fence, among words, or after what the
model thought; further keys are passed over, and a number may be written as text or as 4.0. Two
objects that differ, a number that is none or out of range, and a thought without an end are no
answer: nothing is guessed.
"""

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mre_jax.judges.packs.pack import Answer

_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*?)\n?\s*```", re.DOTALL)
_NUMBER = re.compile(
    r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,30})?(?:[eE][-+]?\d{1,3})?(?![\w.])", re.ASCII
)
_WORD = re.compile(r"(true|false|null|True|False|None)(?!\w)", re.ASCII)
_WORDS = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}
_THOUGHT = re.compile(r"[<\u25c1](/?)(?:think|thinking|thought|reasoning)[>\u25b7]", re.IGNORECASE)
_YES_NO = re.compile(r"\s*(yes|no)\s*[.!]?\s*", re.IGNORECASE)
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
_SPACE = " \t\r\n"
_MARKS = f"{_SPACE}*#-"  # what sets off a line, or makes its key bold
_LONGEST = 100_000
_DEEPEST = 16  # objects and lists in one another

_T = TypeVar("_T")


class UnreadableError(Exception):
    """An answer that is not of the form; the message says why."""


class RefusedError(UnreadableError):
    """An answer in plain words that declines to judge."""


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


def parse_answer(text: str, answer: Answer, *, alone: bool = False) -> Parsed:
    """Reads an answer.

    Args:
        alone: it may have been cut short: it must be one object, with nothing but quotes or a
            fence around it. Lines have no end that tells.

    Raises:
        RefusedError: if it says, in words alone, that the model will not judge.
        UnreadableError: if it is of another form or out of range, or there are two that differ.
    """
    if answer.form == "lines" and not alone:
        return _parsed_lines(text, answer)
    return _only([_parsed(values, answer) for values in _objects(text, answer.keys, alone)])


def json_schema(answer: Answer, *, plain: bool = False) -> dict[str, Any]:
    """The answer's form as a JSON schema of the kind that servers enforce.

    Args:
        plain: whole numbers by their type alone, for servers that enumerate texts only.
    """
    properties: dict[str, Any] = {}
    for key in answer.keys:
        if key == answer.passed:
            properties[key] = {"type": "string", "enum": ["yes", "no"]}
        elif key == answer.text:
            properties[key] = {"type": "string"}
        elif answer.length:
            number = {"type": "integer" if answer.integer else "number"}
            properties[key] = {"type": "array", "items": number}
        elif answer.integer and not plain:
            values = list(range(int(answer.low), int(answer.high) + 1))
            properties[key] = {"type": "integer", "enum": values}
        else:
            properties[key] = {"type": "integer" if answer.integer else "number"}
    return {
        "type": "object",
        "properties": properties,
        "required": list(answer.keys),
        "additionalProperties": False,
    }


def object_with(text: str, keys: Sequence[str]) -> dict[str, Any]:
    """The one object of a text that carries all these keys, found as an answer is.

    Raises:
        RefusedError, UnreadableError: as `parse_answer`.
    """
    return _only(_objects(text, keys))


def _only(found: list[_T]) -> _T:
    if any(other != found[0] for other in found):
        raise UnreadableError(f"{len(found)} answers that differ")
    return found[0]


def _parsed(values: Mapping[str, Any], answer: Answer) -> Parsed:
    scores = [_score(key, value, answer) for key, value in _numbers(values, answer)]
    if not scores:
        raise UnreadableError("no score")
    score = min(scores) if answer.combine == "min" else sum(scores) / len(scores)
    passed = None if answer.passed is None else _passed(answer.passed, values[answer.passed])
    said = values[answer.text] if answer.text is not None else ""
    if not isinstance(said, str | None):
        raise UnreadableError(f"{answer.text!r} is no text")
    return Parsed(score, passed, said or "")


def _parsed_lines(text: str, answer: Answer) -> Parsed:
    """Reads lines, or an object with the same keys."""
    if values := _lines(text, answer):
        return _parsed(values, answer)
    try:
        return _parsed(object_with(text, answer.keys), answer)
    except RefusedError:
        raise
    except UnreadableError as error:
        wanted = ", ".join(f"{key}: NUMBER" for key in answer.scores or ["NAME"])
        reason = f"want the lines {wanted}" if "{" not in text else error
        raise UnreadableError(str(reason)) from None


def _numbers(values: Mapping[str, Any], answer: Answer) -> Iterator[tuple[str, Any]]:
    """The scores by key: one each, the lines that hold one, or those of the list under one key."""
    said = (answer.text or "").casefold()
    for key in answer.scores or [key for key in values if key.casefold() != said]:
        if not answer.length:
            yield key, values[key]
            continue
        numbers = values[key]
        if not isinstance(numbers, list) or len(numbers) != answer.length:
            raise UnreadableError(f"{key!r} is {numbers!r:.40}, no list of {answer.length} numbers")
        yield from ((key, number) for number in numbers)


def _lines(text: str, answer: Answer) -> dict[str, Any]:
    """The values of the lines "KEY: VALUE" that are asked for; none if one of them is not there.

    Where no keys of numbers are asked for, it is every line whose value is one.

    Raises:
        UnreadableError: if a key stands there twice.
    """
    wanted = {key.casefold(): key for key in answer.keys}
    found: dict[str, Any] = {}
    for line in _after_thought(text.strip(_SPACE)).split("\n"):
        name, _, value = line.partition(":")
        name, value = name.strip(_MARKS), value.strip(f"{_SPACE}*")
        key = wanted.get(name.casefold())
        if key is None and not answer.scores and _NUMBER.fullmatch(value):
            key = name
        if key in found:
            raise UnreadableError(f"a line {key!r:.40} twice")
        if key:
            found[key] = value
    if answer.text is not None:
        found.setdefault(answer.text, "")
    wants = [*answer.scores, *([answer.passed] if answer.passed else [])]
    complete = all(key in found for key in wants) and len(found) > (answer.text is not None)
    return found if complete else {}


def _score(key: str, value: Any, answer: Answer) -> int | float:
    number = _read_number(value.strip()) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        number = math.nan
    if math.isnan(number) or (answer.integer and not float(number).is_integer()):
        want = "whole number" if answer.integer else "number"
        raise UnreadableError(f"{key!r} is {value!r:.40}, no {want}")
    if not answer.low <= number <= answer.high:
        raise UnreadableError(f"{key!r} is {value!r:.40}, not in {answer.low} to {answer.high}")
    return int(number) if answer.integer else number


def _read_number(text: str) -> int | float | None:
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _passed(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    match = _YES_NO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnreadableError(f"{key!r} is {value!r:.40}, neither 'yes' nor 'no'")
    return match[1].casefold() == "yes"


def _objects(text: str, keys: Sequence[str], alone: bool = False) -> list[dict[str, Any]]:
    """All objects with these keys, at least one."""
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
    text = text.strip(f"{_SPACE}\ufeff")
    fenced = _FENCE.fullmatch(text)
    if fenced:
        text = fenced[1].strip(_SPACE)
    quoted = len(text) > 1 and text[0] == text[-1] == '"' and text[1:-1].strip(_SPACE)[:1] == "{"
    yield text[1:-1].strip(_SPACE) if quoted else text
    if quoted:
        with contextlib.suppress(ValueError):
            yield json.loads(text, strict=False).strip(_SPACE)


def _found(text: str, keys: Sequence[str], alone: bool) -> list[dict[str, Any]]:
    try:  # all of it is the answer, whatever its texts hold
        found = list(_carriers(_Reader(text).whole(), keys))
        reason = "none of its keys is wanted" if not found else ""
    except UnreadableError as error:
        found, reason = [], str(error)
    if not found and not alone:
        text = _after_thought(text)
        found = list(_among_words(text, keys))
    if not found and "{" not in text and (_SORRY.match(text) or _DECLINES.search(text)):
        raise RefusedError(text[:300])
    if not found:
        raise UnreadableError(reason if text else "nothing")
    return found


def _after_thought(text: str) -> str:
    """What follows the last thought; a server's template may have written its beginning."""
    marks = list(_THOUGHT.finditer(text))
    if marks and not marks[-1][1]:
        raise UnreadableError("a thought that does not end")
    return text[marks[-1].end() :].strip(_SPACE) if marks else text


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
        if match := _NUMBER.match(self._text, self.at):
            self.at = match.end()
            return _read_number(match[0])
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
            if character < " " and character not in _SPACE:
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
        while self.at < len(self._text) and self._text[self.at] in _SPACE:
            self.at += 1

    def _take(self, character: str) -> bool:
        taken = self._peek() == character
        self.at += taken
        return taken

    def _expect(self, character: str) -> None:
        if not self._take(character):
            found = self._text[self.at : self.at + 20] or "its end"
            raise UnreadableError(f"{found!r} where {character!r} is wanted")
