"""Chat completions: what is sent for a question, and what came back."""

import base64
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from mre_jax.judges.answer_parser import UnreadableError, json_schema, parse_answer
from mre_jax.judges.model_facts import most_text_tokens, text_tokens
from mre_jax.judges.picture import mime_type, picture_size
from mre_jax.judges.prompt_pack import Prompt
from mre_jax.judges.question import Question
from mre_jax.judges.redaction import redact

FORMS = ("schema", "text")
_PER_MESSAGE = 20  # tokens around the texts


@dataclasses.dataclass(frozen=True)
class ChatSettings:
    """What is sent besides the question.

    Attributes:
        model: name that the server knows.
        max_tokens: of the answer, thinking included.
        form: "schema" has the server hold the answer to a JSON schema; "text" sends the prompt
            alone, for servers that cannot.
        temperature: None does not send one, as some models refuse it.
        seed: likewise.
        detail: of the pictures, "low", "high" or "auto"; None does not send it.
    """

    model: str
    max_tokens: int
    form: str = "schema"
    temperature: float | None = None
    seed: int | None = None
    detail: str | None = None

    def body(self, question: Question) -> dict[str, Any]:
        """The JSON of the request."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": _messages(question, self.detail),
            "max_completion_tokens": self.max_tokens,
        }
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.seed is not None:
            body["seed"] = self.seed
        if self.form == "schema":
            schema = json_schema(question.prompt.answer)
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": schema},
            }
        return body


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a completion says.

    Attributes:
        status: "ok", "refused", "content_filter", "truncated" or "invalid".
        score, passed: of a reply that is "ok".
        text: what the judge says, or why there is no score.
        raw: the content as it came.
        model: that answered, as the server says.
        usage: "prompt_tokens" and "completion_tokens"; empty if the server does not say.
    """

    status: str
    score: float | None = None
    passed: bool | None = None
    text: str = ""
    raw: str = ""
    model: str = ""
    usage: Mapping[str, int] = dataclasses.field(default_factory=dict)


def read_reply(body: str, prompt: Prompt) -> Reply:
    """Reads the JSON of a completion; what is not one is "invalid"."""
    try:
        completion = json.loads(body)
        choice = completion["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
        model, usage = completion.get("model"), completion.get("usage")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Reply("invalid", text="not a chat completion", raw=redact(body))
    reply = Reply(
        "invalid",
        raw=redact(content) if isinstance(content, str) else "",
        model=model if isinstance(model, str) else "",
        usage=_usage(usage),
    )
    if isinstance(refusal, str) and refusal:
        return dataclasses.replace(reply, status="refused", text=redact(refusal))
    if finish == "content_filter":
        text = "the server's content filter"
        return dataclasses.replace(reply, status="content_filter", text=text)
    if finish == "length":
        return dataclasses.replace(reply, status="truncated", text="longer than max_tokens")
    if not isinstance(content, str):
        return dataclasses.replace(reply, text="no text in the answer")
    try:
        parsed = parse_answer(reply.raw, prompt.answer)
    except UnreadableError as error:
        return dataclasses.replace(reply, text=str(error))
    return dataclasses.replace(
        reply, status="ok", score=parsed.score, passed=parsed.passed, text=parsed.text
    )


def estimate_tokens(question: Question, picture_tokens: Any) -> int:
    """About as many tokens as the request has; `picture_tokens` counts those of (width, height)."""
    texts = sum(map(text_tokens, _texts(question)))
    return texts + _PER_MESSAGE + _of_pictures(question, picture_tokens)


def most_tokens(question: Question, picture_tokens: Any) -> int:
    """As many tokens as the request can have."""
    schema = json.dumps(json_schema(question.prompt.answer))
    texts = sum(map(most_text_tokens, (*_texts(question), schema)))
    return texts + _PER_MESSAGE + _of_pictures(question, picture_tokens)


def _texts(question: Question) -> tuple[str, str]:
    return question.prompt.system, question.prompt.message(question.instruction)


def _of_pictures(question: Question, picture_tokens: Any) -> int:
    sizes = [picture_size(picture, question.item) for picture in question.pictures]
    return sum(picture_tokens(*size) for size in sizes)


def _messages(question: Question, detail: str | None) -> list[dict[str, Any]]:
    system, user = _texts(question)
    content: list[dict[str, Any]] = [{"type": "text", "text": user}]
    for picture in question.pictures:
        url = f"data:{mime_type(picture)};base64,{base64.b64encode(picture).decode()}"
        image = {"url": url, **({"detail": detail} if detail else {})}
        content.append({"type": "image_url", "image_url": image})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _usage(usage: Any) -> dict[str, int]:
    names = ("prompt_tokens", "completion_tokens")
    if not isinstance(usage, dict) or any(type(usage.get(name)) is not int for name in names):
        return {}
    return {name: max(0, usage[name]) for name in names}
