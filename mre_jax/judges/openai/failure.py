"""What it means that a server gave no answer, whichever words and form its error has.

Servers of one protocol write errors in many ways: OpenAI's object, FastAPI's list of places in the
request, a bare text, JSON within a text, a gateway's web page. Read is what they have in common:
all messages, codes and names of fields, wherever they stand.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mre_jax.judges.openai.client import redact
from mre_jax.judges.openai.pace import retry_after
from mre_jax.judges.openai.request import APIS, FORMS, TOKEN_FIELDS, RequestSettings

_NO_MONEY = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "arrearage",
    "budget_exceeded",
    "exceeded_current_quota_error",
}
_FILTERED = {
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "data_inspection_failed",
}
_MESSAGES = ("message", "msg", "detail", "error", "reason", "description", "title", "raw")
_NAMES = ("param", "loc", "field", "path")
_CODES = ("code", "type", "status")
_DEEPEST = 8

_AGAIN = (408, 409, 421, 423, 424, 425, 429, 498, 499)  # and those from 500 on
_SETTINGS = {
    "api": r"only (?:supported|available) in v1/",
    "max_tokens_field": r"\bmax_(?:completion_|output_|new_)?tokens\b|\bmaxOutputTokens\b",
    "temperature": r"\btemperature\b",
    "form": r"response_?format|json_?(?:schema|object|mode)|response_?schema|text\.format|"
    r"structured.?output|guided|\bgrammar\b|\benum\b|additional_?properties|"
    r"handle the requested parameters",
    "seed": r"\bseed\b",
    "detail": r"image_url\.detail|image\.detail|['\"`]detail['\"`]|^detail$",
    "system": r"\bsystem['\"`]? ?(?:role|message|prompt|instruction)|role['\"`]?:? ?['\"`]?system|"
    r"developer instruction|roles must alternate|^instructions$",
    "pictures": r"(?:not|n't|only) (?:support|accept|take|allow|handle)\w*[^.]{0,40}"
    r"(?:image|vision|multi-?modal)|only supports? text|"
    r"(?:image|vision|multi-?modal)\w*[^.]{0,30}(?:not |un)(?:supported|enabled|allowed)|"
    r"image_url is only supported|invalid value: .?(?:image_url|input_image)|"
    r"unknown variant .?(?:image_url|input_image)|not a (?:vision|multi-?modal)|"
    r"at most \d+ image|content['\"`]?[^.]{0,20}must be a string|"
    r"(?:endpoints found that support|required for) image input",
}
"""Settings of a judge, and what an error says where it is about one."""

_ONE_PICTURE = re.compile(
    r"\bformat|mime|\bsizes?\b|resolution|corrupt|valid image|decod|download", re.I
)
_TOO_LONG = re.compile(
    r"context.{0,3}(?:length|window|size)|maximum context|too many (?:input )?tokens|"
    r"(?:prompt|input) is too long|image exceeds",
    re.I,
)
_MODEL = re.compile(
    r"(?:model|deployment).{0,80}"
    r"(?:not found|not exist|no such|unknown|not available|not loaded|decommissioned|retired)|"
    r"(?:unknown|invalid|no such|not find)(?: the)? model|no models? (?:is )?loaded|^model: \S+$|"
    r"no endpoints found matching",
    re.I | re.S,
)
_KEY = re.compile(
    r"api.?key.{0,30}(?:not valid|invalid|incorrect|missing)|invalid api.?key|"
    r"(?:missing|invalid) authorization header",
    re.I,
)
_MONEY = re.compile(
    r"credit balance is too low|insufficient \w*\W?(?:balance|credit|fund)|all available credits",
    re.I,
)
_FLAGGED = re.compile(
    r"\bflagged\b|usage (?:guidelines|polic)|content polic|\u654f\u611f|"
    r"(?:unsafe|inappropriate|sensitive) content",
    re.I,
)
_NO_SUCH_ADDRESS = re.compile(
    r"(?:unexpected|unknown|no such|invalid) (?:endpoint|route|path\b|url|request url)", re.I
)
_REFUSES = re.compile(
    r"unknown|unexpected|unsupported|not support|unrecognized|not permitted|extra|missing data",
    re.I,
)
_TOO_MUCH = re.compile(r"too (?:large|big|high)|less than|at most|exceed|maximum|<=", re.I)


@dataclasses.dataclass(frozen=True)
class Failure:
    """A request without an answer.

    Attributes:
        kind: "limited" by the server, "broken" on the way or at the server (it was not answered),
            "lost" (it may have been answered, and be paid for), "filtered", "refused" (this
            request, and it would be again), "stop" (so would every other).
        text: one line.
        wait: seconds that the server asks for, if it does.
        about: cause of a "stop": "money", "key", "address", "certificate", "model", "pictures", or
            the judge's setting that is refused; of others "address" if nobody there speaks the
            protocol.
    """

    kind: str
    text: str
    wait: float | None = None
    about: str = ""


def read_failure(error: Exception) -> Failure:
    """What an exception of the client means."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return Failure("lost", "no answer in time; give --judge-option timeout=N with more seconds")
    if isinstance(error, openai.APIConnectionError):
        return _of_connection(error.__cause__ or error)
    if isinstance(error, openai.APIStatusError):
        return read_refusal(error.status_code, error.response.text, error.response.headers)
    return Failure("lost", redact(f"{type(error).__name__}: {error}"))


def read_refusal(status: int, body: str, headers: Mapping[str, str] | None = None) -> Failure:
    """What an error of a server means.

    Args:
        status: status of HTTP.
        body: body of the response, as it came.
        headers: headers of the response; they, or the body, may ask to wait.
    """
    error = _Error.read(body)
    text = redact(f"{status}: {error.text}")[:300]
    if status == 402 or error.codes & _NO_MONEY or _MONEY.search(error.text):
        return Failure("stop", text, about="money")
    if error.codes & _FILTERED or (400 <= status < 500 and _FLAGGED.search(error.text)):
        return Failure("filtered", text)
    about = error.about
    if status in (401, 403) or (status == 400 and _KEY.search(error.text)):
        return Failure("stop", text, about="model" if about == "model" else "key")
    if status in (404, 405, 410, 501) or 300 <= status < 400 or _NO_SUCH_ADDRESS.search(error.text):
        named = about if about in ("api", "model", "pictures", "form") else "address"
        return Failure("stop", text, about=named)
    if status in _AGAIN or (status >= 500 and not error.refuses):
        wait = retry_after(headers or {}, body, datetime.datetime.now(datetime.UTC))
        return Failure("limited" if status == 429 else "broken", text, wait)
    if status == 413 or (_TOO_LONG.search(error.text) and "max_tokens" not in error.names):
        return Failure("refused", f"{text} (send smaller pictures, as jpeg:85:512)")
    return Failure("stop", text, about=about) if about else Failure("refused", text)


def remedy(failure: Failure, used: RequestSettings, address: str, key_name: str) -> str:
    """One line for a failure of kind "stop": what the server says, and what to change.

    Args:
        used: what the request was made with.
        address: base address of the server.
        key_name: environment variable that holds the key.
    """
    text = failure.text
    match failure.about:
        case "money":
            return f"the server says there is no money left ({text}); nothing more is sent"
        case "key":
            return f"the server refuses the key ({text}); check {key_name} and base_url"
        case "address":
            return (
                f"{address}{used.path} does not answer as this API does ({text}); check base_url, "
                "which ends in /v1 with most servers, and --judge-option api"
            )
        case "certificate":
            return (
                f"the certificate of {address} is not trusted here ({text}); if it is yours, name "
                "its file in the environment variable SSL_CERT_FILE"
            )
        case "model":
            return (
                f"the server does not know model {used.model!r} ({text}); take one that it lists "
                f"under {address}/models"
            )
        case "pictures":
            return (
                f"the model takes no pictures, or not so many ({text}); take one that does, or "
                "start its server so"
            )
    return f"the server refuses a setting ({text}); give --judge-option {_option(failure, used)}"


def _option(failure: Failure, used: RequestSettings) -> str:
    match failure.about:
        case "temperature":
            return "temperature=null, or another number"
        case "seed" | "detail":
            return f"{failure.about}=null"
        case "api":
            return f"api={next(name for name in APIS if name != used.api)}"
        case "system":
            return "system=user"
        case "max_tokens":
            return f"max_tokens=N with fewer than {used.max_tokens}"
        case "max_tokens_field":
            other = next(name for name in TOKEN_FIELDS if name != used.max_tokens_field)
            return f"max_tokens_field={other}"
        case "form":
            plain = used.form == "schema" and "enum" in failure.text.lower()
            form = "plain_schema" if plain else "text"
            return f"form={form}, or form=auto, which tries {', '.join(FORMS)} in turn"
    return "NAME=VALUE for it, or NAME=null to leave it out"


@dataclasses.dataclass(frozen=True)
class _Error:
    """What the body of an error says.

    Attributes:
        text: messages in one line.
        codes: kinds of errors, in small letters.
        names: names of fields of the request.
    """

    text: str
    codes: frozenset[str]
    names: tuple[str, ...]

    @classmethod
    def read(cls, body: str) -> "_Error":
        if body.lstrip().startswith("<"):
            title = re.search(r"<title>(.*?)</title>", body, re.I | re.S)
            said = " ".join(title[1].split()) if title else ""
            return cls(f"a web page{f', {said!r}' if said else ''}", frozenset(), ())
        found = list(_leaves(body.strip(), "message", 0))
        texts = dict.fromkeys(text for name, text in found if name in _MESSAGES)
        codes = frozenset(text.lower() for name, text in found if name in _CODES)
        names = tuple(text for name, text in found if name in _NAMES)
        said = "; ".join(texts) or ", ".join(sorted(codes)) or body or "no reason given"
        where = f" ({', '.join(names)})" if names and not any(n in said for n in names) else ""
        return cls(" ".join(f"{said}{where}".split()), codes, names)

    @property
    def setting(self) -> str:
        """The judge's setting that is refused; "" if none is named."""
        for name in self.names:
            for setting, pattern in _SETTINGS.items():
                if re.search(pattern, name, re.I):
                    return self._of_tokens(setting)
        for setting, pattern in _SETTINGS.items():
            if re.search(pattern, self.text, re.I):
                if setting == "pictures" and _ONE_PICTURE.search(self.text):
                    return ""
                return self._of_tokens(setting)
        return "setting" if any(code.startswith("unsupported") for code in self.codes) else ""

    @property
    def about(self) -> str:
        """What every request would be refused for; "" if that is not said."""
        setting = self.setting
        return "model" if setting not in ("api", "pictures") and self._names_model else setting

    @property
    def _names_model(self) -> bool:
        return (
            "model" in self.names
            or any(code.startswith("model_not_found") for code in self.codes)
            or bool(_MODEL.search(self.text))
        )

    @property
    def refuses(self) -> bool:
        """Whether it refuses a setting in words that no passing fault has."""
        return bool(self.setting and _REFUSES.search(self.text))

    def _of_tokens(self, setting: str) -> str:
        """It is the number that is refused, not the field's name, where it is too large."""
        too_much = setting == "max_tokens_field" and _TOO_MUCH.search(self.text)
        return "max_tokens" if too_much else setting


def _leaves(value: Any, name: str, depth: int) -> Iterator[tuple[str, str]]:
    """All texts and numbers with the name that they stand under."""
    if depth > _DEEPEST or value is None or isinstance(value, bool):
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, name if key in ("0", "") else str(key), depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name, depth + 1)
    elif name in _MESSAGES and (inner := _json_of(str(value))) is not None:
        yield from _leaves(inner, name, depth + 1)
    elif str(value):
        yield name, str(value)


def _json_of(text: str) -> Any:
    """The object, list or text that a text is the JSON of; None if it is none."""
    try:
        return json.loads(text) if text[:1] in ("{", "[", '"') else None
    except (ValueError, RecursionError):
        return None


def _of_connection(cause: BaseException) -> Failure:
    text = f"connection: {redact(str(cause)) or 'lost'}"
    kind = type(cause).__name__
    if "CERTIFICATE_VERIFY" in text:
        return Failure("stop", text, about="certificate")
    if re.search(r"\bSSL\b|UnsupportedProtocol|TooManyRedirects", f"{kind} {text}"):
        return Failure("stop", text, about="address")
    if "Connect" in kind:
        return Failure("broken", text, about="address")
    return Failure("lost", text)
