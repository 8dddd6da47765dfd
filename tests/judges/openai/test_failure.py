"""Errors in the forms that servers and gateways have for them."""

import json

import pytest

from mre_jax.judges.openai.failure import read_refusal


def openai(message, param=None, code=None, kind="invalid_request_error"):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def place(name, *before):
    """FastAPI's way to say that a field is none of its own."""
    entry = {"type": "extra_forbidden", "loc": ["body", *before, name], "input": 300}
    return [{**entry, "msg": "Extra inputs are not permitted"}]


FIELD = "max_completion_tokens"
EXTRA = f'[{{"type": "extra_forbidden", "loc": ("body", "{FIELD}")}}]'

STOPS = [
    ("max_tokens_field", 422, {"detail": place(FIELD)}),
    ("max_tokens_field", 400, {"object": "error", "message": {"detail": place(FIELD)}}),
    ("max_tokens_field", 400, {"object": "error", "message": EXTRA, "code": 400}),
    ("max_tokens_field", 400, openai(f"Unrecognized request argument supplied: {FIELD}")),
    ("max_tokens_field", 400, openai(f"Unsupported parameter: '{FIELD}'", FIELD)),
    ("max_tokens_field", 400, {"error": f'json: unknown field "{FIELD}"'}),
    ("max_tokens_field", 400, {"error": {"message": json.dumps({"detail": place(FIELD)})}}),
    ("max_tokens_field", 400, [{"error": {"message": f'Unknown name "{FIELD}"', "code": 400}}]),
    ("max_tokens_field", 422, f"unknown field {FIELD}"),
    ("max_tokens_field", 500, {"error": f"unexpected keyword argument '{FIELD}'"}),
    ("max_tokens", 400, openai("max_tokens is too large: 9000. This model takes at most 4096")),
    ("temperature", 400, openai("no", "temperature", "unsupported_value")),
    ("temperature", 400, openai("'temperature' does not support 0.0 with this model.")),
    ("temperature", 422, {"detail": [{"loc": ["body", "temperature"], "msg": "must be > 0"}]}),
    ("temperature", 400, {"message": "`temperature` must be strictly positive"}),
    ("form", 400, openai("This response_format type is unavailable now")),
    ("form", 400, openai("Invalid parameter", "response_format.type")),
    ("form", 400, openai("x", "text.format.schema")),
    ("form", 400, {"error": {"message": "'json_schema' is not supported by this model"}}),
    ("form", 400, {"error": {"status": "INVALID_ARGUMENT", "message": "enum: only STRING"}}),
    ("form", 500, {"error": "structured outputs are not supported with this backend"}),
    ("seed", 422, {"detail": place("seed")}),
    ("detail", 422, {"detail": place("detail", "messages", 1, "content", 1, "image_url")}),
    ("system", 400, openai("Developer instruction is not enabled for models/x")),
    ("system", 400, {"error": "System role not supported"}),
    ("system", 400, {"message": "Conversation roles must alternate user/assistant/..."}),
    (
        "pictures",
        400,
        openai("Invalid content type. image_url is only supported by certain models"),
    ),
    ("pictures", 400, {"message": "At most 1 image(s) may be provided in one prompt."}),
    ("pictures", 422, {"error": "unknown variant `image_url`, expected `text`"}),
    ("pictures", 400, {"error": {"message": "this model does not support image input"}}),
    ("pictures", 400, {"object": "error", "message": "x is not a multimodal model"}),
    ("model", 404, openai("The model `x` does not exist", None, "model_not_found")),
    ("model", 404, {"error": 'model "x" not found, try pulling it first'}),
    ("model", 400, {"object": "error", "message": "Invalid model: x", "code": "1500"}),
    ("model", 400, openai("x is not a valid model ID", "model")),
    ("address", 404, {"detail": "Not Found"}),
    ("address", 404, "404 page not found"),
    ("address", 404, "<html><head><title>404 Not Found</title></head></html>"),
    ("address", 405, {"detail": "Method Not Allowed"}),
    ("address", 302, ""),
    ("address", 501, "Unsupported method"),
    ("key", 401, {"detail": "Unauthorized"}),
    ("key", 403, "<html>no</html>"),
    ("key", 400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}]),
    ("money", 429, openai("quota", None, "insufficient_quota")),
    ("money", 402, {"error": {"message": "Insufficient Balance"}}),
    # Servers that say it in another way, or under a status of another meaning.
    ("address", 502, {"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
    ("api", 404, openai("This model is only supported in v1/responses", "model")),
    (
        "form",
        404,
        {"error": {"message": "No endpoints found that can handle the requested parameters"}},
    ),
    ("max_tokens", 400, openai("too large: 4000; maximum context length is 4096", "max_tokens")),
    ("model", 404, {"error": {"message": "The API deployment for this resource does not exist."}}),
    ("model", 404, {"error": {"type": "not_found_error", "message": "model: claude-x"}}),
    ("model", 404, {"error": {"message": "No endpoints found matching your data policy."}}),
    ("model", 400, {"error": "No models loaded. Please load a model."}),
    ("model", 400, openai("The model `x` has been decommissioned", None, "model_decommissioned")),
    ("model", 410, {"error": "This model has been retired"}),
    ("model", 403, openai("Project has no access to model `x`", None, "model_not_found")),
    ("pictures", 404, {"error": {"message": "No endpoints found that support image input"}}),
    ("pictures", 500, openai("this model is missing data required for image input")),
    ("key", 400, {"error": {"message": "Missing or invalid Authorization header."}}),
    ("money", 400, {"error": {"message": "Your credit balance is too low to access the API."}}),
    ("money", 400, openai("Budget has been exceeded!", None, "400", "budget_exceeded")),
    ("money", 429, openai("suspended", None, None, "exceeded_current_quota_error")),
    ("setting", 400, openai("not with this one", None, "unsupported_parameter")),
]
OTHERS = [
    ("refused", 400, openai("image is broken", None, "invalid_image")),
    ("refused", 400, openai("You uploaded an unsupported image: bad format", "messages")),
    ("refused", 400, openai("The image format is not supported")),
    ("refused", 413, "<html><title>413 Request Entity Too Large</title></html>"),
    ("refused", 400, openai("maximum context length is 2048 tokens, 1900 + 300 (max_tokens)")),
    ("refused", 422, ""),
    ("filtered", 400, openai("filtered", "prompt", "content_filter")),
    ("filtered", 400, openai("inappropriate content", None, "data_inspection_failed")),
    (
        "filtered",
        403,
        {"error": {"message": "Your input was flagged", "metadata": {"reasons": []}}},
    ),
    ("limited", 429, {"detail": "Too Many Requests"}),
    ("limited", 429, {"message": "Requests rate limit exceeded", "code": "1300"}),
    ("broken", 498, {"error": {"message": "Flex tier capacity exceeded, try again later"}}),
    ("broken", 424, {"error": "Request failed during generation: CUDA out of memory"}),
    ("broken", 500, "Internal Server Error"),
    ("broken", 502, "<html><title>502 Bad Gateway</title></html>"),
    ("broken", 503, {"error": {"message": "Model is overloaded"}}),
    ("broken", 529, {"type": "error", "error": {"type": "overloaded_error"}}),
]


def read(status, body):
    return read_refusal(status, body if isinstance(body, str) else json.dumps(body))


@pytest.mark.parametrize(("about", "status", "body"), STOPS)
def test_what_every_request_would_fail_of_is_told(about, status, body):
    """Taken for a fault of the question, it would be paid for, or waited for, to the end."""
    failure = read(status, body)
    assert (failure.kind, failure.about) == ("stop", about)
    assert "\n" not in failure.text


@pytest.mark.parametrize(("kind", "status", "body"), OTHERS)
def test_what_only_this_request_fails_of_stops_nothing(kind, status, body):
    """One broken picture must not end a run of thousands."""
    assert read(status, body).kind == kind


@pytest.mark.parametrize(
    "body", ["{" * 5000, "[" * 100_000, '{"a": ' * 900 + "1" + "}" * 900, "\0"]
)
def test_any_body_is_read(body):
    assert read(400, body).kind == "refused"
