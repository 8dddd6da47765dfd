"""Instructions for photos from a server on the loopback that plays the model."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.suites.instruction_draft import parse_draft
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.reward.edit_types import EDIT_TYPES
from tests.evaluation.commands import evaluate

MODEL = "gpt-4o-2024-08-06"
GOOD = json.dumps({kind: f"do  {kind}\n now" for kind in EDIT_TYPES})


@pytest.fixture
def server(monkeypatch):
    """Answers with `server.answers` in turn: a text, or a status."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary0123456789abcdef")
    monkeypatch.setattr("mre_jax.judges.openai.model.back_off", lambda failures: 0.0)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            self.server.bodies.append(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            )
            answer = self.server.answers.pop(0) if self.server.answers else GOOD
            status = answer if isinstance(answer, int) else 200
            message = {"role": "assistant", "content": answer}
            body = json.dumps(
                {"error": {"message": "no"}}
                if status != 200
                else {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": MODEL,
                    "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
                }
            ).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers, server.bodies = [], []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(folder / name)
    return folder


@pytest.fixture
def build(server, photos, tmp_path):
    address = f"http://127.0.0.1:{server.server_address[1]}/v1"

    def build(*options):
        judge = ("--judge", f"openai:{MODEL}", "--base-url", address)
        return evaluate("build-benchmark", photos, "--out", tmp_path / "out", *judge, *options)

    return build


def test_a_draft_becomes_a_benchmark_once_a_person_has_saved_it(build, server, tmp_path):
    assert build() == 0
    out = tmp_path / "out"
    with pytest.raises(DataError, match="not laid out as Real-Edit"):
        read_real_edit(out)
    (out / "instructions.draft.json").rename(out / "instructions.json")
    cases = read_real_edit(out)
    assert [case.id for case in cases] == [f"{photo}-{n}" for photo in "ab" for n in range(1, 8)]
    assert cases[1].instruction == "do Remove now" and cases[1].kind == "Remove"
    assert server.bodies[0]["response_format"]["json_schema"]["strict"] is True


def test_a_bad_answer_is_asked_for_again_and_a_photo_only_once(build, server):
    server.answers = ["no JSON", 500, json.dumps({"Local": "x"})]
    assert build() == 0
    assert len(server.bodies) == 5
    build()
    assert len(server.bodies) == 5


def test_a_photo_without_instructions_is_named(build, server, tmp_path):
    server.answers = ["none"] * 3
    with pytest.raises(DataError, match=r"1 photos have no instructions, the first a\.png"):
        build()
    assert list(json.loads((tmp_path / "out" / "instructions.draft.json").read_text())) == ["b.png"]
    assert build() == 0


def test_a_server_that_does_not_answer_ends_the_run(build, server):
    server.answers = [503] * 8
    with pytest.raises(BusyError, match=r"a\.png: no answer .*run it again"):
        build()
    assert len(server.bodies) == 8


def test_the_money_holds_across_runs(build, server):
    with pytest.raises(BusyError, match=r"a\.png may cost .* raise --max-usd"):
        build("--max-usd", "0.0001")
    assert not server.bodies
    assert build("--max-usd", "5") == 0


def test_a_dry_run_tells_the_price(build, server, tmp_path, capsys):
    assert build("--dry-run") == 0
    assert "2 requests, at most 0." in capsys.readouterr().out
    assert not server.bodies and not (tmp_path / "out").exists()


def test_only_a_model_behind_chat_completions_can_write(photos, tmp_path):
    with pytest.raises(ConfigError, match="only openai:MODEL"):
        evaluate("build-benchmark", photos, "--judge", "toy", "--out", tmp_path / "out")
    with pytest.raises(DataError, match="no photos"):
        evaluate("build-benchmark", tmp_path, "--judge", "toy", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    "raw",
    ["", "[]", "{}", *(json.dumps(dict.fromkeys(EDIT_TYPES, text)) for text in (" ", None))],
)
def test_drafts_are_read_strictly(raw):
    assert parse_draft(raw) is None
