"""The Batch flow against a server on the loopback, killed between any two of its steps."""

import dataclasses
import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.growing_file import GrowingFile
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.openai import batch as openai_batch
from mre_jax.judges.openai.batch_folder import BatchFolder
from tests.judges.questions import question
from tests.training.figures import Figures

ONE = (1000 * 2.5e-6 + 20 * 10e-6) / 2


@pytest.fixture
def batch(ask):
    def batch(questions, **options):
        return ask(questions, "openai-batch", **{"lines": 4, **options})

    return batch


def test_questions_go_in_batches_and_come_back_by_their_id(batch, server, time, tmp_path):
    questions = [question(n) for n in range(10)]
    spent = []
    found = batch(questions, spent=spent)
    assert {v.status for v in found.values()} == {"ok"}
    assert len(found) == server.requests.total() == 10
    assert (server.uploads, server.created) == (3, 3)
    assert all(v.usd == pytest.approx(ONE) for v in found.values())
    assert spent == [pytest.approx(10 * ONE)]
    lines = [json.loads(line) for _, data in server.files.values() for line in data.splitlines()]
    sent = [line for line in lines if "body" in line]
    assert len({line["custom_id"] for line in sent}) == len(sent) == 10
    assert {line["url"] for line in sent} == {"/v1/chat/completions"}
    folder = tmp_path / "j.jsonl.batches"
    assert [p.name for p in folder.glob("*.jsonl")] == ["events.jsonl"]  # no pictures stay
    # Neither flow asks again what the other was answered.
    batch(questions)
    assert server.requests.total() == 10


def test_the_other_flow_knows_the_answers(ask, batch, server):
    batch([question(n) for n in range(3)])
    ask([question(n) for n in range(3)])
    assert server.requests.total() == 3


def test_the_name_of_a_file_is_the_hash_of_its_content(batch, server):
    import hashlib

    batch([question(1)])
    row, content = next(iter(server.files.values()))
    assert row["filename"] == hashlib.sha256(content).hexdigest()[:32] + "-0.jsonl"


def test_items_that_ask_the_same_are_one_request(batch, server):
    twins = [dataclasses.replace(question(1), item=name) for name in "abc"]
    found = batch([*twins, question(2), twins[0]])
    assert sorted(found) == ["a", "b", "c", "item-2"]
    assert server.requests.total() == 2


def test_batches_keep_to_their_size(batch, server):
    batch([question(n) for n in range(6)], lines=50, bytes_=9_000)
    assert all(len(content) <= 9_000 for _, content in server.files.values())
    assert server.created > 1
    with pytest.raises(DataError, match="send smaller ones"):
        batch([question(9)], bytes_=100, journal="other.jsonl")


@pytest.mark.parametrize(
    ("outcomes", "created", "status"),
    [
        (["token_limit", "token_limit"], 3, "ok"),
        (["no_output"], 2, "ok"),
        (["expired"], 2, "ok"),
        (["no_output"] * 3, 3, "http_error"),
    ],
)
def test_what_a_batch_leaves_out_is_sent_again(batch, server, outcomes, created, status):
    server.outcomes = list(outcomes)
    found = batch([question(n) for n in range(4)])
    assert {v.status for v in found.values()} == {status}
    assert server.created == created
    if status == "http_error":  # the next run asks anew
        assert {v.status for v in batch([question(n) for n in range(4)]).values()} == {"ok"}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("malformed", "invalid"),
        ("refusal", "refused"),
        ("length", "truncated"),
        ("content_filter", "content_filter"),
        ("think", "ok"),
        ("chatty", "ok"),
        ("sorry", "refused"),
    ],
)
def test_bad_answers_have_their_status(batch, kind, status):
    found = batch([question(1, kind, 9), question(2)])
    assert {k: v.status for k, v in found.items()} == {"item-1": status, "item-2": "ok"}


def test_lines_that_failed_alone_are_sent_again_alone(batch, server):
    found = batch([question(1, "500", 1), question(2), question(3)])
    assert {v.status for v in found.values()} == {"ok"}
    assert sorted(server.requests.values()) == [1, 1, 2]


def test_a_queue_that_is_too_small_says_so(batch, server):
    server.outcomes = ["token_limit"] * 9
    with pytest.raises(ConfigError, match="set fewer lines"):
        batch([question(1)])


def test_a_failed_batch_is_named_and_not_kept(batch, server):
    server.outcomes = ["failed"]
    with pytest.raises(ConfigError, match="batch batch_1 failed: invalid_json_line"):
        batch([question(1)])
    assert batch([question(1)])["item-1"].status == "ok"


def test_a_server_without_batches_is_told_with_the_judge_that_can_ask_it(batch, server):
    server.has_batches = False
    with pytest.raises(ConfigError, match=r"no requests for files and batches .*take the judge op"):
        batch([question(1)])


def test_another_model_s_answers_are_refused(batch):
    with pytest.raises(ConfigError, match="model_echo"):
        batch([question(1, "wrong_model", 9)])


def test_the_ceiling_holds(batch, server):
    questions = [question(n) for n in range(12)]
    ceiling = 0.012  # of two requests at their most, and of less than nine at their price
    spent = []
    found = batch(questions, budget=Budget(ceiling), spent=spent)
    assert spent[0] <= ceiling
    ok = [v for v in found.values() if v.status == "ok"]
    assert 2 <= len(ok) == server.requests.total() < 12
    assert len(found) == 12
    assert {v.status for v in found.values()} == {"ok", "budget_stopped"}


class Killed(BaseException):
    pass


def kill_at(monkeypatch, step):
    """Ends the process, as far as Python can, before the n-th write or call."""
    ticks = 0

    def tick():
        nonlocal ticks
        ticks += 1
        if ticks == step:
            raise Killed

    append, call = GrowingFile.append, openai_batch._Server._call

    def killed_append(self, record):
        tick()
        return append(self, record)

    async def killed_call(self, request):
        tick()
        return await call(self, request)

    monkeypatch.setattr(GrowingFile, "append", killed_append)
    monkeypatch.setattr(openai_batch._Server, "_call", killed_call)


@pytest.mark.slow
def test_r13_a_kill_between_any_two_steps_loses_nothing_and_pays_nothing_twice(
    batch, server, tmp_path, monkeypatch
):
    figures = Figures("R13")
    questions = [question(n) for n in range(4)]
    for step in range(1, 100):
        journal = f"{step}.jsonl"
        for seen in (server.requests, server.files, server.batches):
            seen.clear()
        server.outcomes = ["completed", "expired"]
        with monkeypatch.context() as patch:
            kill_at(patch, step)
            try:
                batch(questions, lines=2, journal=journal)
                killed = False
            except Killed:
                killed = True
        found = batch(questions, lines=2, journal=journal)
        assert {k: v.status for k, v in found.items()} == dict.fromkeys(found, "ok"), step
        assert len(found) == 4, step
        # One line of the expired batch was not answered, and is sent twice.
        assert server.requests.total() == 5, step
        with Journal(tmp_path / journal) as opened:
            assert opened.spent == pytest.approx(4 * ONE), step
        with BatchFolder(tmp_path / f"{journal}.batches") as folder:
            assert folder.unfinished() == []
        if not killed:
            break
    assert 20 < step < 99
    figures.report(f"batch flow killed at each of its {step - 1} steps: lost 0, paid twice 0")


def test_a_lost_reply_to_create_does_not_make_a_second_batch(batch, server, monkeypatch):
    import openai

    make = openai.resources.batches.AsyncBatches.create
    lost = []

    async def create(self, **values):
        answer = await make(self, **values)
        if not lost:
            lost.append(answer)
            raise openai.APITimeoutError(request=None)
        return answer

    monkeypatch.setattr(openai.resources.batches.AsyncBatches, "create", create)
    assert batch([question(1)])["item-1"].status == "ok"
    assert server.created == 1


def test_r13_an_answer_with_a_raw_line_separator_is_read(batch, server):
    """JSON allows U+2028 in a text: cut there, a paid answer was lost and asked for again."""
    found = batch([question(1, "separators", 9)])
    assert found["item-1"].text == "a\u2028b\u0085c"
    assert server.requests.total() == 1
    Figures("R13").report("a batch's answer with U+2028: lost 0, paid twice 0")


def test_a_line_that_nobody_can_read_is_kept_and_told(batch, server, tmp_path, caplog):
    """It may be a paid answer."""
    server.lines = b'{"custom_id": "x", "resp\n[]\n\n'
    assert batch([question(1)])["item-1"].status == "ok"
    assert (tmp_path / "j.jsonl.batches" / "unread.jsonl").read_bytes() == (
        b'{"custom_id": "x", "resp\n[]\n'
    )
    assert [record.getMessage().partition(":")[2][:12] for record in caplog.records] == [
        "1: not JSON ",
        "2: want a JS",
    ]


def test_responses_go_in_batches_too(batch, server):
    found = batch([question(n) for n in range(3)], api="responses")
    assert {v.status for v in found.values()} == {"ok"}
    assert {b["endpoint"] for b in server.batches.values()} == {"/v1/responses"}
    assert found["item-0"].usd == pytest.approx(ONE)


def test_a_setting_that_a_batch_s_requests_are_refused_for_is_named(batch, server):
    """Its answers are kept, and the rest is not sent twice more."""
    questions = [question(1), question(2, "setting", 1)]
    with pytest.raises(ConfigError, match="temperature=null"):
        batch(questions)
    assert (server.created, server.requests.total()) == (1, 2)
    found = batch(questions, temperature=None)
    assert {v.status for v in found.values()} == {"ok"}


def test_first_answers_without_a_score_end_the_run(batch, server):
    with pytest.raises(ConfigError, match="10 invalid"):
        batch([question(n, "malformed", 9) for n in range(40)], active=1)
    assert server.created == 3
