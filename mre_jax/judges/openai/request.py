"""What is sent for a question: a chat completion, or a request of the Responses API."""

import base64
import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

from mre_jax.judges.openai.model_facts import most_text_tokens, text_tokens
from mre_jax.judges.packs.answer_parser import json_schema
from mre_jax.judges.picture import mime_type, picture_size
from mre_jax.judges.question import Question

APIS = ("chat", "responses")
FORMS = ("schema", "plain_schema", "json_object", "text")
"""From what binds the server most to what binds it least."""

TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
SYSTEMS = ("system", "user")
_PER_MESSAGE = 20  # tokens around the texts
_AS_JSON = "Write the answer as one JSON object."

PictureTokens = Callable[[int, int], int]


@dataclasses.dataclass(frozen=True)
class Message:
    """A text and pictures for a model.

    Attributes:
        system: the system message; "" for none.
        user: the user's.
        pictures: files, shown in this order after the text.
        schema: JSON schema of the answer.
        plain_schema: the same for servers that know less of schemas.
    """

    system: str
    user: str
    pictures: tuple[bytes, ...] = dataclasses.field(repr=False)
    schema: Mapping[str, Any]
    plain_schema: Mapping[str, Any]

    @classmethod
    def of(cls, question: Question) -> Self:
        prompt = question.prompt
        return cls(
            system=prompt.system,
            user=prompt.message(question.instruction),
            pictures=question.pictures,
            schema=json_schema(prompt.answer),
            plain_schema=json_schema(prompt.answer, plain=True),
        )

    def tokens(self, picture_tokens: PictureTokens) -> int:
        """About as many as the request has; `picture_tokens` counts those of (width, height)."""
        return self._count(text_tokens, (self.system, self.user), picture_tokens)

    def most_tokens(self, picture_tokens: PictureTokens) -> int:
        """As many as the request can have."""
        texts = self.system, self.user, _AS_JSON, json.dumps(self.schema)
        return self._count(most_text_tokens, texts, picture_tokens)

    def _count(
        self, count: Callable[[str], int], texts: tuple[str, ...], picture_tokens: PictureTokens
    ) -> int:
        sizes = [picture_size(picture, "picture") for picture in self.pictures]
        return sum(map(count, texts)) + _PER_MESSAGE + sum(picture_tokens(*size) for size in sizes)


@dataclasses.dataclass(frozen=True)
class RequestSettings:
    """What is sent besides the message.

    Attributes:
        model: name that the server knows.
        max_tokens: tokens of the answer, thinking included.
        form: what holds the server to the answer's form: "schema", a JSON schema that enumerates
            whole numbers; "plain_schema", one that gives their type; "json_object", that it is
            JSON; "text", the prompt alone.
        temperature: None does not send one, as some models refuse it.
        seed: seed of the answer; None does not send it.
        detail: detail of the pictures, "low", "high" or "auto"; None does not send it.
        api: "chat" for chat completions, "responses" for the Responses API.
        max_tokens_field: what chat completions call `max_tokens`.
        system: "system" sends the system message as one, "user" before the user's text.
    """

    model: str
    max_tokens: int
    form: str = "schema"
    temperature: float | None = None
    seed: int | None = None
    detail: str | None = None
    api: str = "chat"
    max_tokens_field: str = TOKEN_FIELDS[0]
    system: str = "system"

    @property
    def path(self) -> str:
        """Path of the API, after the base address."""
        return "/responses" if self.api == "responses" else "/chat/completions"

    def body(self, message: Message) -> dict[str, Any]:
        """The JSON of the request."""
        system, user = message.system, message.user
        if self.form == "json_object" and "json" not in f"{system}{user}".lower():
            user = f"{user}\n{_AS_JSON}"  # OpenAI's server asks for the word
        if system and self.system == "user":
            system, user = "", f"{system}\n\n{user}"
        body = (self._response if self.api == "responses" else self._completion)(
            system, user, message.pictures, self._form(message)
        )
        sent = {"temperature": self.temperature, "seed": self.seed}
        return body | {name: value for name, value in sent.items() if value is not None}

    def _form(self, message: Message) -> dict[str, Any] | None:
        """The form as the Responses API has it."""
        if self.form in ("schema", "plain_schema"):
            schema = message.schema if self.form == "schema" else message.plain_schema
            return {"type": "json_schema", "name": "verdict", "strict": True, "schema": schema}
        return {"type": "json_object"} if self.form == "json_object" else None

    def _completion(
        self, system: str, user: str, pictures: tuple[bytes, ...], form: dict[str, Any] | None
    ) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": user}]
        for picture in pictures:
            image = {"url": _data_url(picture), **({"detail": self.detail} if self.detail else {})}
            content.append({"type": "image_url", "image_url": image})
        body = {
            "model": self.model,
            "messages": _messages(system, content),
            self.max_tokens_field: self.max_tokens,
        }
        if form is not None:
            kind = form.pop("type")
            body["response_format"] = {"type": kind, **({kind: form} if form else {})}
        return body

    def _response(
        self, system: str, user: str, pictures: tuple[bytes, ...], form: dict[str, Any] | None
    ) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "input_text", "text": user}]
        for picture in pictures:
            detail = {"detail": self.detail} if self.detail else {}
            content.append({"type": "input_image", "image_url": _data_url(picture), **detail})
        body = {
            "model": self.model,
            "input": _messages(system, content),
            "max_output_tokens": self.max_tokens,
            "store": False,  # else the server keeps the pictures
        }
        return body | ({"text": {"format": form}} if form is not None else {})


def _messages(system: str, content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": content}]


def _data_url(picture: bytes) -> str:
    return f"data:{mime_type(picture)};base64,{base64.b64encode(picture).decode()}"
