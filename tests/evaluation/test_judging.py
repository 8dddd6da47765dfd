"""`mre evaluate real-edit` with a model as the judge, played by a server on the loopback."""

import json
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image

from mre_jax.errors import ConfigError
from mre_jax.evaluation.results import read_results
from mre_jax.judges.journal import read_verdicts
from tests.evaluation import commands
from tests.judges.server import MODEL, JudgeServer

# What the server does: behave so for the first N requests of this instruction, then answer well.
BEHAVIOURS = ("ok [0] #1", "refusal [9] #2", "content_filter [9] #3", "malformed [9] #4",
              "length [9] #5", "400 [1] #6", "malformed [1] #7")  # fmt: skip
STATUSES = ("ok", "refused", "content_filter", "invalid", "truncated", "rejected", "ok")
KEY = "sk-canary0123456789abcdef"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with JudgeServer() as server:
        yield server


@pytest.fixture
def evaluate(server, tmp_path):
    kinds = ("Local", "Remove", "Add", "Texture", "Background", "Global", "Style")
    texts = [f"{n}. {k}: {b}" for n, (k, b) in enumerate(zip(kinds, BEHAVIOURS, strict=True), 1)]
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "edits").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "data" / "images" / "7.png")
    for number in range(1, 8):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(tmp_path / "edits" / f"7-{number}.png")
    (tmp_path / "data" / "instructions.json").write_text(json.dumps({"7.png": texts}))

    def evaluate(*options):
        judge = ("--judge", f"openai:{MODEL}", "--base-url", server.url)
        folders = ("--images", tmp_path / "edits", "--out", tmp_path / "out")
        return commands.evaluate(
            "real-edit", tmp_path / "data", "--system", "x", *folders, *judge, *options
        )

    return evaluate


def test_every_item_ends_with_one_status_and_is_paid_for_once(evaluate, server, tmp_path, capsys):
    assert evaluate("--concurrency", "1") == 0
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert len(rows) == 21
    found = {(row.item, row.metric): row.status for row in rows}
    for number, status in enumerate(STATUSES, 1):
        assert found[f"7-{number}", "following"] == status
        assert found[f"7-{number}", "quality"] == "ok"  # its prompt does not name the instruction
    assert (
        "following 3.5 accuracy 100.0% (2/7, 1 content_filter, 1 invalid, 1 refused, 1 rejected"
        in (capsys.readouterr().out)
    )
    before = sum(server.requests.values())
    assert evaluate("--again", "rejected") == 0
    # One request for what is asked again, and none for what is final.
    assert sum(server.requests.values()) == before + 1
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert len(rows) == 21 and "rejected" not in {row.status for row in rows}
    assert {row.measure for row in rows if row.status == "ok"} == {MODEL}
    for path in (tmp_path / "out").rglob("*.jsonl"):
        assert KEY not in path.read_text()


def test_a_finished_run_is_read_again_without_decoding_a_picture(evaluate, server, monkeypatch):
    """To resume 140 items took 37 s of decoding, and that of everything."""
    evaluate()
    asked = sum(server.requests.values())

    def encode(*pair):
        raise AssertionError(f"{pair} was decoded")

    monkeypatch.setattr("mre_jax.evaluation.questions.encode_pair", encode)
    assert evaluate() == 0
    assert sum(server.requests.values()) == asked


def test_no_score_at_all_is_no_success(evaluate, server):
    server.refuses = lambda body: (400, {"error": {"message": "image is broken"}})
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"none of the first 10 answers.*image is broken"):
            evaluate("--concurrency", "1")
    with pytest.raises(
        ConfigError, match=r"none of 21 answers has a score \(21 rejected\).*image is broken"
    ):
        evaluate("--concurrency", "1")
    assert len(server.bodies) == 21


def test_money_that_does_not_suffice_leaves_rows_that_say_so(evaluate, server, tmp_path):
    with pytest.raises(ConfigError, match="--max-usd: 21 scores are not covered"):
        evaluate("--max-usd", "0.0001")
    assert not server.requests
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert {row.status for row in rows} == {"budget_stopped"}
    assert evaluate("--max-usd", "10") == 0
    assert {row.status for row in read_results(tmp_path / "out" / "results.jsonl")} == set(STATUSES)


@pytest.mark.slow
def test_kill_9_while_judging_loses_nothing_and_pays_what_was_under_way_at_most(
    evaluate, server, tmp_path
):
    path = tmp_path / "data" / "instructions.json"
    path.write_text(path.read_text().replace("[9]", "[0]").replace("[1]", "[0]"))
    words = ["evaluate", "real-edit", "data", "--system", "x", "--images", "edits", "--out", "out"]
    words += ["--judge", f"openai:{MODEL}", "--base-url", server.url, "--concurrency", "3"]
    code = "import sys; from mre_jax import cli; sys.exit(cli.main(sys.argv[1:]))"
    server.latency, kills = 0.2, 3
    for _ in range(kills):
        before = server.requests.total()
        process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path)
        while process.poll() is None and server.requests.total() < before + 5:
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.latency = 0
    assert evaluate() == 0
    rows = read_results(tmp_path / "out" / "results.jsonl")
    assert (len(rows), {row.status for row in rows}) == (21, {"ok"})
    assert len(list(read_verdicts(tmp_path / "out" / "judge.jsonl"))) == 21
    assert 21 <= server.requests.total() <= 21 + 3 * kills


def test_a_dry_run_sends_nothing_and_leaves_nothing(evaluate, server, tmp_path, capsys):
    assert evaluate("--dry-run") == 0
    assert f"openai:{MODEL}: 21 requests, 0 answered before" in capsys.readouterr().out
    assert not server.requests and not (tmp_path / "out").exists()


def test_prompts_that_compare_two_edits_are_refused_before_anything_is_made(evaluate, server):
    with pytest.raises(ConfigError, match="gedit-v2-ours: compares two edits"):
        evaluate("--pack", "gedit-v2-ours")
    assert not server.requests
