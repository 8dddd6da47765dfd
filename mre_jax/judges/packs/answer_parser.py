"""Reading a judge's answer: whatever can be read without guessing, and without running anything.

An answer is one object with the keys that were asked for (`packs.objects` finds it): JSON, as the
schema of `json_schema` makes a server write it, or the Python dictionary of the paper's prompts.
Further keys are passed over, and a number may be written as text or as 4.0. Two objects that
differ, a number that is none or out of range, and a thought without an end are no answer: nothing
is guessed.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mre_jax.judges.packs.objects import (
    NUMBER,
    SPACE,
    RefusedError,
    UnreadableError,
    after_thought,
    object_with,
    objects_with,
    only,
    read_number,
)
from mre_jax.judges.packs.pack import CHOSEN, Answer

_YES_NO = re.compile(r"\s*(yes|no)\s*[.!]?\s*", re.IGNORECASE)
_MARKS = f"{SPACE}*#-"  # what sets off a line, or makes its key bold


@dataclasses.dataclass(frozen=True)
class Parsed:
    """An answer that was read.

    Attributes:
        score: the number, or what the numbers combine to; an int where all are; of a choice what
            the edit that is shown first gets.
        passed: whether the answer is "yes"; None where it was not asked for.
        text: what the judge says; "" where it was not asked for.
    """

    score: float
    passed: bool | None
    text: str


def parse_answer(text: str, answer: Answer, *, alone: bool = False) -> Parsed:
    """Reads an answer.

    Example:
        >>> form = Answer(("score",), integer=True, low=0, high=5, text="bad")
        >>> parse_answer('{"score": 4, "bad": "blurred"}', form)
        Parsed(score=4, passed=None, text='blurred')

    Args:
        alone: it may have been cut short: it must be one object, with nothing but quotes or a
            fence around it. Lines have no closing mark.

    Raises:
        RefusedError: if it says, in words alone, that the model will not judge.
        UnreadableError: if it is of another form or out of range, or there are two that differ.
    """
    if answer.form == "lines" and not alone:
        return _parsed_lines(text, answer)
    return only([_parsed(values, answer) for values in objects_with(text, answer.keys, alone)])


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
        elif answer.choices:
            properties[key] = {"type": "string", "enum": list(answer.choices)}
        elif answer.length:
            number = {"type": "integer" if answer.integer else "number"}
            properties[key] = {"type": "array", "items": number}
        elif answer.integer and not plain:
            values = list(range(int(answer.low), int(answer.high) + 1))
            properties[key] = {"type": "integer", "enum": values}
        else:
            properties[key] = {"type": "integer" if answer.integer else "number"}
    return object_schema(properties)


def object_schema(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly these keys, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


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
    for line in after_thought(text.strip(SPACE)).split("\n"):
        name, _, value = line.partition(":")
        name, value = name.strip(_MARKS), value.strip(f"{SPACE}*")
        key = wanted.get(name.casefold())
        if key is None and not answer.scores and NUMBER.fullmatch(value):
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
    if answer.choices:
        return _choice(key, value, answer.choices)
    number = read_number(value.strip()) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        number = math.nan
    if math.isnan(number) or (answer.integer and not float(number).is_integer()):
        want = "whole number" if answer.integer else "number"
        raise UnreadableError(f"{key!r} is {value!r:.40}, no {want}")
    if not answer.low <= number <= answer.high:
        raise UnreadableError(f"{key!r} is {value!r:.40}, not in {answer.low} to {answer.high}")
    return int(number) if answer.integer else number


def _choice(key: str, value: Any, choices: tuple[str, ...]) -> float:
    """What the edit shown first gets by a choice; capitals and a full stop do not matter."""
    said = value.strip(f"{SPACE}.!*\"'").casefold() if isinstance(value, str) else None
    for choice, score in zip(choices, CHOSEN, strict=False):
        if said == choice.casefold():
            return score
    raise UnreadableError(f"{key!r} is {value!r:.40}, none of {', '.join(choices)}")


def _passed(key: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    match = _YES_NO.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise UnreadableError(f"{key!r} is {value!r:.40}, neither 'yes' nor 'no'")
    return match[1].casefold() == "yes"
