"""What becomes of every kind of answer: asked of a real server on the loopback."""

import base64
import json
import logging
from pathlib import Path

import openai
import pytest

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.judge import make_judge
from mre_jax.judges.openai.failure import Failure, read_failure
from mre_jax.judges.openai.pace import Pace
from mre_jax.judges.openai.reply import read_reply, read_said
from mre_jax.judges.openai.request import Message
from tests.judges.conftest import KEY
from tests.judges.questions import EDITED, ORIGINAL, question
from tests.judges.server import MODEL, response
from tests.training.figures import Figures

ONE = 1000 * 2.5e-6 + 20 * 10e-6  # US dollars of a good answer

# kind of answer, how often, status, requests, paid answers, what is waited for
MATRIX = [
    ("ok", 0, "ok", 1, 1, []),
    ("429", 2, "ok", 3, 1, [2, 2]),
    ("429_long", 1, "ok", 2, 1, [7200]),
    ("429_plain", 1, "ok", 2, 1, None),
    ("500", 2, "ok", 3, 1, None),
    ("503", 1, "ok", 2, 1, [1]),
    ("500", 99, "http_error", 8, 0, None),
    ("refusal", 99, "refused", 1, 1, []),
    ("length", 99, "truncated", 1, 1, []),
    ("content_filter", 99, "content_filter", 1, 1, []),
    ("400_filter", 99, "content_filter", 1, 0, []),
    ("400", 99, "rejected", 1, 0, []),
    ("gateway", 1, "ok", 2, 1, None),
    ("sorry", 99, "refused", 1, 1, []),
    ("malformed", 1, "ok", 2, 2, []),
    # The same words again are no better a third time.
    ("malformed", 99, "invalid", 2, 2, []),
    ("out_of_range", 99, "invalid", 2, 2, []),
    ("two_objects", 99, "invalid", 2, 2, []),
    ("two_answers", 99, "invalid", 2, 2, []),
    ("fraction", 99, "invalid", 2, 2, []),
    ("half", 99, "invalid", 2, 2, []),
    ("surrogate", 99, "invalid", 2, 2, []),
    ("nan", 99, "invalid", 2, 2, []),
    ("empty", 99, "invalid", 2, 2, []),
    ("no_answer", 99, "invalid", 2, 2, []),
    ("eval", 99, "invalid", 2, 2, []),
    ("thought_only", 99, "truncated", 1, 1, []),
    ("thought_unclosed", 99, "truncated", 1, 1, []),
    # What can be read without guessing is read.
    *(
        (kind, 99, "ok", 1, 1, [])
        for kind in ("extra_key", "decimal", "numstr", "newline", "think", "chatty", "listed")
    ),
    *(
        (kind, 99, "ok", 1, 1, [])
        for kind in ("quoted", "separators", "length_whole", "parts", "tool", "bom")
    ),
    *(
        (kind, 99, "ok", 1, 1, [])
        for kind in ("stream", "gzip", "nan_beside", "answer_as_thought", "two_choices")
    ),
    ("no_choices", 1, "ok", 2, None, None),
    ("list_body", 1, "ok", 2, None, None),
    ("html", 1, "ok", 2, None, None),
    ("nothing", 1, "ok", 2, None, None),
    ("error_in_200", 1, "ok", 2, 1, None),
    ("reset", 1, "ok", 2, None, None),
]


@pytest.mark.parametrize(("kind", "times", "status", "requests", "paid", "waits"), MATRIX)
def test_every_answer_has_one_outcome(
    ask, server, time, tmp_path, kind, times, status, requests, paid, waits
):
    asked = question(1, kind, times)
    (verdict,) = ask([asked]).values()
    assert verdict.status == status
    assert (verdict.score, verdict.model) == (
        (4, MODEL) if status == "ok" else (None, verdict.model)
    )
    assert verdict.requests == requests == server.requests.total()
    assert verdict.text or status == "ok"
    if paid is not None:
        assert verdict.usd == pytest.approx(paid * ONE)
    if waits is not None:
        assert time.waits == pytest.approx(waits)
    assert list(read_verdicts(tmp_path / "j.jsonl")) == [verdict]
    # A second run asks again only what had no answer.
    server.requests.clear()
    ask([asked])
    assert server.requests.total() == (verdict.requests if status == "http_error" else 0)


def test_r13_no_item_is_lost_among_answers_of_every_kind(ask, server):
    figures = Figures("R13")
    found = ask([question(n, kind, times) for n, (kind, times, *_) in enumerate(MATRIX)])
    expected = {f"item-{n}": (row[2], row[3]) for n, row in enumerate(MATRIX)}
    assert {item: (v.status, v.requests) for item, v in found.items()} == expected
    requests = [row[3] for row in MATRIX]
    assert server.requests.total() == sum(requests)
    figures.report(
        f"{len(MATRIX)} kinds of answers to {len(MATRIX)} items: lost {len(MATRIX) - len(found)}, "
        f"requests an item at most {max(requests)}, mean {sum(requests) / len(requests):.1f}"
    )


def test_an_answer_that_cannot_be_read_keeps_its_words_and_is_not_run(ask):
    (verdict,) = ask([question(1, "eval", 9)]).values()
    assert verdict.raw == "__import__('os').system('touch /tmp/mre_pwned')"
    assert not Path("/tmp/mre_pwned").exists()  # noqa: S108


def test_a_slow_server_is_asked_again_and_may_have_been_paid(ask, server):
    (verdict,) = ask([question(1, "slow", 1)], timeout=3.0).values()
    assert (verdict.status, verdict.requests) == ("ok", 2)
    assert verdict.usd > ONE


def test_a_server_that_makes_wait_is_told_of_once(ask, server, caplog):
    """A bar that stands still for an hour says nothing about a limit or a slow server."""
    ask([question(n, "429_plain", 6) for n in range(5)], concurrency=5)
    assert [r.getMessage()[:30] for r in caplog.records] == ["no answer yet after 4 requests"]


def test_a_server_that_is_not_there_is_told_soon(ask, time):
    pace = Pace(clock=time.clock, sleep=time.sleep)
    judge = make_judge(f"openai:{MODEL}", base_url="http://127.0.0.1:9/v1", pace=pace)
    with pytest.raises(BusyError, match=r"no server answers at http://127.0.0.1:9/v1.*base_url"):
        ask([question(n) for n in range(50)], judge=judge)
    assert time.now < 10  # it does not wait for minutes to say so


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("401", "refuses the key"),
        ("403", "refuses the key"),
        ("404", f"does not know model '{MODEL}'"),
        ("no_money", "no money left"),
        ("setting", "refuses a setting"),
        ("wrong_model", f"asked '{MODEL}', and 'gpt-4o-mini-2024-07-18' answered"),
    ],
)
def test_what_no_retry_can_mend_stops_everything_at_once(ask, server, kind, message):
    questions = [question(0, kind, 99), *(question(n) for n in range(1, 50))]
    with pytest.raises(ConfigError, match=message) as error:
        ask(questions, concurrency=4)
    assert server.requests.total() <= 12  # what was under way, not the fifty
    assert KEY not in str(error.value)


def test_a_stop_wakes_those_that_wait_for_hours(ask, server):
    server.latency = 0.02
    with pytest.raises(ConfigError, match="refuses the key"):
        ask([question(0, "429_long", 99), question(1, "401", 9)], pace=Pace(), concurrency=2)


def test_one_answer_s_wait_holds_for_all(ask, server, time):
    ask([question(0, "429_long", 1), *(question(n) for n in range(1, 4))], concurrency=1)
    assert time.now == pytest.approx(7200)


def test_what_is_sent():
    judge = make_judge(f"openai:{MODEL}", offline=True, seed=7, detail="low")
    body = judge.model.request.body(Message.of(question(3, perspective="quality")))
    assert body["max_completion_tokens"] == 300
    assert (body["temperature"], body["seed"]) == (0.0, 7)
    assert body["response_format"]["json_schema"]["strict"] is True
    system, user = body["messages"]
    assert system["content"].startswith("You are an advanced AI model")
    text, image = user["content"]
    assert "{instruction}" not in text["text"]
    assert image["image_url"]["detail"] == "low"
    head, _, data = image["image_url"]["url"].partition(",")
    assert (head, base64.b64decode(data)) == ("data:image/png;base64", EDITED)
    both = judge.model.request.body(Message.of(question(3)))["messages"][1]["content"][1:]
    sent = [base64.b64decode(part["image_url"]["url"].partition(",")[2]) for part in both]
    assert sent == [ORIGINAL, EDITED]


def test_models_that_think_get_no_temperature_and_room():
    judge = make_judge("openai:gpt-5-mini-2025-08-07", offline=True)
    body = judge.model.request.body(Message.of(question()))
    assert "temperature" not in body
    assert body["max_completion_tokens"] == 4000


def test_without_a_schema_the_papers_dictionary_is_read(ask):
    (verdict,) = ask([question()], form="text").values()
    assert (verdict.score, verdict.text) == (3, "It's dark.")


def test_a_snapshot_may_answer_for_its_name():
    judge = make_judge("openai:gpt-4o", offline=True)
    judge.model.check_model("gpt-4o-2024-08-06")
    for other in ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"):
        with pytest.raises(ConfigError):
            judge.model.check_model(other)
    make_judge("openai:mine", offline=True, model_echo="any").model.check_model("another")


def test_the_key_is_in_no_output(ask, server, tmp_path, caplog, capfd, monkeypatch):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError) as error:
        ask([question(1), question(2, "401", 9)], concurrency=1)
    logging.getLogger("x").warning("header %s", {"Authorization": f"Bearer {KEY}"})
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    shown = "".join(capfd.readouterr())
    for text in (str(error.value), repr(error.value), written, caplog.text, shown):
        assert KEY not in text
        assert "canary" not in text
    assert server.keys == {f"Bearer {KEY}"}  # where it belongs


def test_a_key_is_needed_and_named(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        make_judge(f"openai:{MODEL}")
    make_judge(f"openai:{MODEL}", base_url="http://127.0.0.1:8000/v1")  # vLLM needs none


def test_the_key_may_be_that_of_another_service(ask, server, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-0123456789")
    (verdict,) = ask([question()], key_name="AZURE_OPENAI_API_KEY").values()
    assert verdict.status == "ok" and server.keys == {"Bearer azure-0123456789"}


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("openai", {}, "want openai:NAME"),
        ("gpt-4o", {}, "want one of openai"),
        ("toy:x", {}, "want toy"),
        ("openai:m", {"form": "xml"}, "form 'xml'"),
        ("openai:m", {"api": "batch"}, "api 'batch'"),
        ("openai:m", {"system": "none"}, "system 'none'"),
        ("openai:m", {"max_tokens_field": "tokens"}, "want auto, max_completion_tokens"),
        ("openai:m", {"temperature": "warm"}, "want a number, null or auto"),
        ("openai:m", {"temperature": True}, "want a number, null or auto"),
        ("openai:m", {"max_tokens": 2.5}, "max_tokens 2.5"),
        ("openai:m", {"timeout": 0}, "timeout 0"),
        ("openai:m", {"seed": 1, "api": "responses"}, "the Responses API takes none"),
        ("openai:m", {"max_tokens": 0}, "max_tokens 0"),
        ("openai:m", {"nope": 1}, "nope"),
        ("openai:m", {"requests_per_minute": 0}, "requests per minute"),
        ("openai:m", {"usd": (-1.0, 1.0)}, "price"),
    ],
)
def test_bad_settings_are_named(spec, options, message):
    with pytest.raises(ConfigError, match=message):
        make_judge(spec, **({"offline": True} | options if spec == "openai:m" else options))


@pytest.mark.parametrize(
    ("kind", "error", "message", "most"),
    [
        ("400", ConfigError, "10 rejected.*image is broken.*--again rejected", 10),
        ("malformed", ConfigError, "10 invalid.*'The score is 4.'.*form=auto", 20),
        (
            "thought_only",
            ConfigError,
            "thinking took all of max_tokens.*max_tokens=N with more than 300",
            10,
        ),
        ("sorry", DataError, "10 refused.*can't assist.*another judge", 10),
        ("content_filter", DataError, "10 content_filter.*another judge", 10),
        ("html", ConfigError, "/v1/chat/completions does not answer.*web page.*base_url", 2),
        ("list_body", ConfigError, "not an answer of this protocol.*base_url", 2),
        ("nothing", ConfigError, "an empty answer.*base_url", 2),
        ("500", BusyError, "10 http_error.*check base_url, and run it again", 80),
    ],
)
def test_first_answers_without_a_score_end_the_run(ask, server, kind, error, message, most):
    """Twenty thousand questions must not be paid for to learn that a judge cannot answer."""
    with pytest.raises(error, match=message):
        ask([question(n, kind, 99) for n in range(100)], concurrency=1)
    assert server.requests.total() == most


def test_a_run_with_a_score_goes_on_past_answers_without_one(ask, server):
    questions = [question(0), *(question(n, "sorry", 99) for n in range(1, 40))]
    assert len(ask(questions, concurrency=1)) == 40
    # What is in the journal counts as well: nothing of it is asked again.
    more = [question(n, "sorry", 99) for n in range(40, 60)]
    assert len(ask([*questions, *more], concurrency=1)) == 60


def test_a_server_that_stops_to_answer_ends_the_run(ask, server):
    questions = [question(0), *(question(n, "html", 99) for n in range(1, 100))]
    with pytest.raises(BusyError, match="20 items in a row had no answer"):
        ask(questions, concurrency=1)
    assert server.requests.total() == 1 + 20 * 3


@pytest.mark.parametrize("kind", ["openai", "openai-batch"])
def test_an_answer_carries_what_decided_it(ask, server, kind):
    asked = question(3, encoding="jpeg:75")
    (verdict,) = ask([asked], kind, temperature=0.5, detail="low").values()
    assert verdict.settings == {
        "model": MODEL,
        "base_url": server.url,
        "api": "chat",
        "form": "schema",
        "temperature": 0.5,
        "max_tokens": 300,
        "max_tokens_field": "max_completion_tokens",
        "seed": None,
        "detail": "low",
        "system": "system",
        "pictures": "jpeg:75",
        "pack": "paper-annotation",
        "sizes": [[8, 8], [8, 8]],
    }


def test_a_journal_of_before_settings_is_still_an_answer(ask, server, tmp_path):
    """An old journal must be worth what was paid for it."""
    ask([question(1)])
    path = tmp_path / "j.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.pop("settings", None)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (verdict,) = ask([question(1)]).values()
    assert (verdict.status, verdict.settings, server.requests.total()) == ("ok", {}, 1)


# --- servers of other kinds -----------------------------------------------------------------------


def extra(name):
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "not permitted"}]}


def knows_no(*names):
    """Refuses requests with any of these fields."""

    def refuse(body):
        found = next((name for name in names if name in body), None)
        return None if found is None else (422, extra(found))

    return refuse


def knows_no_form(*kinds):
    def refuse(body):
        kind = body.get("response_format", {}).get("type")
        return (400, {"error": f"response_format {kind} is unavailable"}) if kind in kinds else None

    return refuse


def has_no_enum(body):
    schema = json.dumps(body.get("response_format", {}))
    return (400, {"error": "enum: only STRING"}) if '"enum": [0' in schema else None


def test_a_server_of_the_older_field_gets_it_once_it_has_refused_the_newer(ask, server, time):
    """Mistral's API and older gateways could not be asked at all."""
    server.refuses = knows_no("max_completion_tokens")
    found = ask([question(n) for n in range(20)], concurrency=4)
    assert {v.status for v in found.values()} == {"ok"}
    assert server.requests.total() <= 20 + 4
    assert {v.settings["max_tokens_field"] for v in found.values()} == {"max_tokens"}
    assert server.bodies[-1]["max_tokens"] == 300
    # Whatever it was called, it is the same answer.
    server.requests.clear()
    ask([question(n) for n in range(20)], max_tokens_field="max_tokens")
    assert not server.requests


@pytest.mark.parametrize(
    ("refuses", "options", "message"),
    [
        (
            knows_no("max_completion_tokens"),
            {"max_tokens_field": "max_completion_tokens"},
            "max_tokens_field=max_tokens",
        ),
        (knows_no("max_completion_tokens", "max_tokens"), {}, "takes neither"),
        (knows_no("temperature"), {}, "temperature=null"),
        (knows_no("seed"), {"seed": 1}, "seed=null"),
        (knows_no("response_format"), {}, "form=text, or form=auto"),
        (has_no_enum, {}, "form=plain_schema, or form=auto"),
        (knows_no_form("json_object"), {"form": "json_object"}, "form=text"),
        (lambda body: (400, {"error": "System role not supported"}), {}, "system=user"),
        (lambda body: (404, {"detail": "Not Found"}), {}, r"/v1/chat/completions.*base_url"),
        (lambda body: (405, b"<html>no</html>"), {}, "base_url"),
        (lambda body: (404, {"detail": "Not Found"}), {"api": "responses"}, r"/v1/responses"),
        (lambda body: (400, {"message": "not a multimodal model"}), {}, "takes no pictures"),
        (lambda body: (404, {"error": "only supported in v1/responses"}), {}, "api=responses"),
    ],
)
def test_a_setting_that_is_refused_is_named_with_its_cure(ask, server, refuses, options, message):
    server.refuses = refuses
    with pytest.raises(ConfigError, match=message):
        ask([question(n) for n in range(50)], concurrency=4, **options)
    assert len(server.bodies) <= 12


@pytest.mark.parametrize(
    ("cause", "message"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "SSL_CERT_FILE"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "check base_url"),
    ],
)
def test_a_connection_that_can_never_be_is_told_with_its_cure(cause, message):
    error = openai.APIConnectionError(request=None)
    error.__cause__ = OSError(cause)
    failure = read_failure(error)
    judge = make_judge(f"openai:{MODEL}", offline=True)
    assert failure.kind == "stop"
    assert message in judge.model.remedy(failure)


@pytest.mark.parametrize(
    ("refuses", "form"),
    [
        (lambda body: None, "schema"),
        (has_no_enum, "plain_schema"),
        (knows_no_form("json_schema"), "json_object"),
        (knows_no("response_format"), "text"),
    ],
)
def test_the_form_is_the_strongest_that_the_server_takes(ask, server, refuses, form):
    server.refuses = refuses
    found = ask([question(n) for n in range(10)], concurrency=2, form="auto")
    assert {(v.status, v.settings["form"]) for v in found.values()} == {("ok", form)}
    ask([question(n) for n in range(10)], form="auto")  # one run knows the other's answers
    assert len(server.bodies) <= 10 + 2 * 3


def test_a_server_without_a_system_message_gets_it_before_the_question(ask, server):
    (verdict,) = ask([question()], system="user").values()
    (message,) = server.bodies[0]["messages"]
    assert message["role"] == "user"
    assert message["content"][0]["text"].startswith("You are an advanced AI")
    assert (verdict.status, verdict.settings["system"]) == ("ok", "user")


def test_the_server_that_refuses_a_key_is_told_with_the_key_s_name(ask, server, monkeypatch):
    monkeypatch.setenv("OTHER_KEY", "azure-0123456789")
    with pytest.raises(ConfigError, match="check OTHER_KEY and base_url"):
        ask([question(0, "401", 9)], key_name="OTHER_KEY")


@pytest.mark.parametrize("address", ["127.0.0.1:8000/v1", "localhost", "ftp://x/v1", "http://"])
def test_an_address_without_its_beginning_is_named(address):
    with pytest.raises(ConfigError, match="want http://"):
        make_judge("openai:m", base_url=address)


# --- the Responses API ---------------------------------------------------------------------------


def test_what_a_response_is_asked_with():
    judge = make_judge(f"openai:{MODEL}", offline=True, api="responses", detail="low")
    body = judge.model.request.body(Message.of(question(3)))
    assert body["max_output_tokens"] == 300
    assert (body["temperature"], body["store"]) == (0.0, False)
    form = body["text"]["format"]
    assert (form["type"], form["strict"]) == ("json_schema", True)
    assert form["schema"]["required"] == ["score", "bad"]
    system, user = body["input"]
    assert system["role"] == "system"
    text, original, edited = user["content"]
    assert (text["type"], original["type"], edited["detail"]) == (
        "input_text",
        "input_image",
        "low",
    )
    assert base64.b64decode(edited["image_url"].partition(",")[2]) == EDITED


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("ok", "ok"),
        ("think", "ok"),
        ("refusal", "refused"),
        ("content_filter", "content_filter"),
        ("thought_only", "truncated"),
        ("malformed", "invalid"),
        ("400", "rejected"),
        ("gzip", "ok"),
    ],
)
def test_a_response_is_read_as_a_completion_is(ask, kind, status):
    (verdict,) = ask([question(1, kind, 9)], api="responses").values()
    assert verdict.status == status
    assert (verdict.settings["api"], verdict.settings["max_tokens_field"]) == (
        "responses",
        "max_output_tokens",
    )
    if status == "ok":
        assert verdict.usd == pytest.approx(ONE)


def test_a_failed_response_is_asked_again(ask, server):
    (verdict,) = ask([question(1, "500", 1)], api="responses").values()
    assert (verdict.status, verdict.requests) == ("ok", 2)


def test_a_streamed_response_is_put_together(ask, server):
    made = response({"model": MODEL, "input": []})
    events = [
        {"type": "response.output_text.delta", "delta": "{"},
        {"type": "response.completed", "response": made},
    ]
    lines = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    said = read_said(lines)
    assert (said.model, said.usage["prompt_tokens"]) == (MODEL, 1000)
    assert "score" in said.text


def test_answers_of_one_api_are_not_those_of_the_other(ask, server):
    ask([question()])
    ask([question()], api="responses")
    assert server.requests.total() == 2


def completion(content, reason="stop", **choice):
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": reason, **choice}]})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (completion({"score": 4, "bad": ""}), "ok"),
        (completion({"type": "text", "text": "{'score': 4, 'bad': ''}"}), "ok"),
        (completion("", "content_filter: PROHIBITED_CONTENT"), "content_filter"),
        (completion("", "RECITATION"), "content_filter"),
        (completion("{'score': 4, 'ba", "model_length"), "truncated"),
    ],
)
def test_answers_of_other_shapes_are_read(body, status):
    assert read_reply(read_said(body), question(0).prompt).status == status


def test_an_error_in_the_place_of_a_choice_is_one():
    """It was taken for a wrong address, which ended the run."""
    error = {"code": 429, "message": "upstream is busy"}
    failure = read_said(completion("", "error", error=error))
    assert failure == Failure("limited", "429: upstream is busy")
