"""What a user does about a server that refuses every request."""

from mre_jax.judges.openai.failure import Failure
from mre_jax.judges.openai.request import APIS, FORMS, TOKEN_FIELDS, RequestSettings


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
