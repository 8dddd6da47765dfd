"""What a server's answer says, in whatever way servers of the protocol put it.

The text may be one or come in parts, thoughts among them; the body may be a stream that was not
asked for, or an error under status 200. What has no answer in it is a `Failure`.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, Self

from mre_jax.judges.openai.client import redact
from mre_jax.judges.openai.failure import Failure, read_refusal
from mre_jax.judges.packs.answer_parser import parse_answer
from mre_jax.judges.packs.objects import RefusedError, UnreadableError
from mre_jax.judges.packs.pack import Prompt

_TEXT_PARTS = ("text", "output_text")
_STOPS = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
    "prohibited_content": "content_filter",
    "blocklist": "content_filter",
    "sensitive": "content_filter",
    "refusal": "content_filter",
    "error": "error",
}


@dataclasses.dataclass(frozen=True)
class Said:
    """What an answer holds.

    Attributes:
        text: the answer itself, without thoughts that are kept apart from it.
        refusal: why the model declines, where it says so apart.
        stop: "length", "content_filter" or "error" if it was cut short; "" otherwise.
        thought: what the model thought, as far as it is shown.
        others: texts of further choices, which were not asked for.
        model: model that answered, as the server says.
        usage: "prompt_tokens" and "completion_tokens"; empty if the server does not say.
    """

    text: str = ""
    refusal: str = ""
    stop: str = ""
    thought: str = ""
    others: tuple[str, ...] = ()
    model: str = ""
    usage: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What an answer comes to.

    Attributes:
        status: `Verdict.status`.
        score, passed: number, and yes or no, of a reply that is "ok".
        text: what the judge says, or why there is no score.
        raw: the content as it came.
        model: model that answered, as the server says.
        usage: "prompt_tokens" and "completion_tokens"; empty if the server does not say.
    """

    status: str
    score: float | None = None
    passed: bool | None = None
    text: str = ""
    raw: str = ""
    model: str = ""
    usage: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """That of a request without an answer: "content_filter", "rejected" or "http_error"."""
        final = {"filtered": "content_filter", "refused": "rejected"}
        return cls(final.get(failure.kind, "http_error"), text=failure.text)


def read_said(body: bytes | str) -> Said | Failure:
    """Reads the body of a completion or of a response."""
    text = body if isinstance(body, str) else body.decode("utf-8-sig", "replace")
    text = text.lstrip("\ufeff").strip()
    if not text:
        return _strange("an empty answer")
    try:
        values = _streamed(text) if _is_stream(text) else json.loads(text)
    except (ValueError, RecursionError):
        return _no_json(text)
    if not isinstance(values, dict):
        return _strange(f"not an answer of this protocol: {redact(text)[:200]!r}")
    said = _of_response(values) if "output" in values else _of_completion(values)
    if (said is None or said.stop == "error") and _error_of(values):
        return read_refusal(_status_of(values), json.dumps(values))
    if said is None or said.stop == "error":
        return _strange(f"not an answer of this protocol: {redact(text)[:200]!r}")
    return said


def read_reply(said: Said, prompt: Prompt) -> Reply:
    """What an answer comes to under a prompt."""
    reply = Reply("invalid", raw=redact(said.text), model=said.model, usage=said.usage)
    if said.refusal:
        return dataclasses.replace(reply, status="refused", text=redact(said.refusal))
    if said.stop == "content_filter":
        text = "the server's content filter"
        return dataclasses.replace(reply, status="content_filter", text=text)
    # All of the thought, where a server takes an answer without a thought for one.
    answers = [reply.raw, *map(redact, said.others)] if said.text else [redact(said.thought)]
    cut = bool(said.stop) or not said.text  # it must be the answer and nothing else
    try:
        parsed = {parse_answer(answer, prompt.answer, alone=cut) for answer in answers}
    except RefusedError as error:
        return dataclasses.replace(reply, status="refused", text=str(error))
    except UnreadableError as error:
        return _unread(reply, said, str(error))
    if len(parsed) > 1:
        return dataclasses.replace(reply, text=f"{len(answers)} choices that differ")
    (found,) = parsed
    return dataclasses.replace(
        reply, status="ok", score=found.score, passed=found.passed, text=found.text
    )


def _unread(reply: Reply, said: Said, reason: str) -> Reply:
    if said.stop == "length":
        thought = not said.text or said.text.lstrip().startswith(("<think", "\u25c1think"))
        text = "thinking took all of max_tokens" if thought else "longer than max_tokens"
        return dataclasses.replace(reply, status="truncated", text=text)
    if not said.text:
        reason = "a thought and no answer" if said.thought else "no text in the answer"
    return dataclasses.replace(reply, text=reason)


def _of_completion(values: Mapping[str, Any]) -> Said | None:
    choices = values.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return None
    messages = [choice.get("message") or {"content": choice.get("text")} for choice in choices]
    if not messages or not all(isinstance(message, dict) for message in messages):
        return None
    message = messages[0]
    usage = _dict(values.get("usage"))
    return Said(
        text=_text(message),
        refusal=_parts(message.get("refusal"), ("refusal",)) or _refusal_part(message),
        stop=_stop(choices[0].get("finish_reason")),
        thought=_parts(message.get("reasoning_content") or message.get("reasoning"), _TEXT_PARTS),
        others=tuple(map(_text, messages[1:])),
        model=_string(values.get("model")),
        usage=_usage(usage, "prompt_tokens", "completion_tokens"),
    )


def _of_response(values: Mapping[str, Any]) -> Said | None:
    output = values["output"]
    if not isinstance(output, list) or values.get("status") in ("failed", "cancelled"):
        return None
    items = [item for item in output if isinstance(item, dict)]
    usage = _dict(values.get("usage"))
    content = [item.get("content") for item in items if item.get("type") == "message"]
    thoughts = [item for item in items if item.get("type") == "reasoning"]
    reason = _dict(values.get("incomplete_details")).get("reason")
    return Said(
        text="".join(_parts(parts, _TEXT_PARTS) for parts in content),
        refusal="".join(_parts(parts, ("refusal",)) for parts in content if parts),
        stop=_stop(reason) or ("length" if values.get("status") == "incomplete" else ""),
        thought="".join(_parts(item.get("summary"), ("summary_text",)) for item in thoughts),
        model=_string(values.get("model")),
        usage=_usage(usage, "input_tokens", "output_tokens"),
    )


def _text(message: Mapping[str, Any]) -> str:
    """The content; where there is none, what the model hands the one function it calls."""
    text = _parts(message.get("content"), _TEXT_PARTS)
    calls = message.get("tool_calls")
    if text or not isinstance(calls, list) or len(calls) != 1:
        return text
    return _string(_dict(_dict(calls[0]).get("function")).get("arguments"))


def _refusal_part(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return _parts(content, ("refusal",)) if isinstance(content, list) else ""


def _parts(content: Any, kinds: tuple[str, ...]) -> str:
    """A text, or the parts of these kinds joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):  # a part alone, or the answer as an object
        return _part(content, kinds) if "type" in content else json.dumps(content)
    parts = content if isinstance(content, list) else []
    return "".join(_part(part, kinds) for part in parts)


def _part(part: Any, kinds: tuple[str, ...]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", kinds[0]) not in kinds:
        return ""
    return next((part[kind] for kind in ("text", *kinds) if isinstance(part.get(kind), str)), "")


def _is_stream(text: str) -> bool:
    return text.startswith(("data:", "event:", "id:", ":"))


def _streamed(text: str) -> dict[str, Any]:
    """The completion or response that the events of a stream come to.

    Raises:
        ValueError: if an event is not JSON, or there is none.
    """
    lines = [line for line in text.split("\n") if line.startswith("data:")]
    datas = [line.removeprefix("data:").strip() for line in lines]
    events = [json.loads(data) for data in datas if data and data != "[DONE]"]
    events = [event for event in events if isinstance(event, dict)]
    for event in reversed(events):
        if isinstance(event.get("response"), dict):  # the last one has all of it
            return event["response"]
        if _error_of(event):
            return event
    if not events:
        raise ValueError
    return {
        "model": next(_of_each(events, "model"), None),
        "usage": next(_of_each(reversed(events), "usage"), None),
        "choices": [_joined(events)],
    }


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The first choice, of all events."""
    parts = [
        choice
        for event in events
        for choice in event.get("choices") or ()
        if isinstance(choice, dict) and choice.get("index", 0) == 0
    ]
    deltas = [_dict(part.get("delta") or part.get("message")) for part in parts]
    message = {
        name: "".join(_parts(delta.get(name), _TEXT_PARTS) for delta in deltas)
        for name in ("content", "refusal", "reasoning_content", "reasoning")
    }
    return {
        "message": message,
        "finish_reason": next(_of_each(reversed(parts), "finish_reason"), None),
    }


def _of_each(values: Any, name: str) -> Iterator[Any]:
    return (value[name] for value in values if value.get(name))


def _no_json(text: str) -> Failure:
    if text.startswith("<"):
        return _strange("a web page instead of an answer")
    return _strange(f"not JSON: {redact(text)[:200]!r}")


def _strange(text: str) -> Failure:
    """It may be paid for, and may be the address of something else."""
    return Failure("lost", text, about="address")


def _error_of(values: Mapping[str, Any]) -> Any:
    named = values.get("error") or values.get("detail") or _error_of_choice(values)
    return named or (values.get("object") == "error" and values.get("message"))


def _error_of_choice(values: Mapping[str, Any]) -> Any:
    choices = values.get("choices")
    return _dict(choices[0]).get("error") if isinstance(choices, list) and choices else None


def _status_of(values: Mapping[str, Any]) -> int:
    """The status that an error under status 200 stands for; that of a gateway if it has none."""
    for code in (_dict(_error_of(values)).get("code"), values.get("code"), values.get("status")):
        if isinstance(code, int | str) and str(code).isdigit() and 400 <= int(code) <= 599:
            return int(code)
    return 502


def _stop(reason: Any) -> str:
    return _STOPS.get(str(reason).lower().partition(":")[0], "")


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _usage(usage: Mapping[str, Any], prompt: str, completion: str) -> dict[str, int]:
    if any(type(usage.get(name)) is not int for name in (prompt, completion)):
        return {}
    return {
        "prompt_tokens": max(0, usage[prompt]),
        "completion_tokens": max(0, usage[completion]),
    }
