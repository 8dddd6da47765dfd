"""`mre evaluate real-edit` on a toy benchmark, its exact judge and a tiny editor."""

import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.edits import sent_pictures
from mre_jax.evaluation.edits.sent_pictures import check_pictures, encode_pair
from mre_jax.evaluation.results import read_results, select
from mre_jax.evaluation.suite import check_complete
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.evaluation.system import parse_rewards
from mre_jax.io.files import locked
from mre_jax.io.image import read_image
from mre_jax.judges import picture
from mre_jax.judges.others.toy import ToyJudge
from mre_jax.judges.packs.pack import load_pack
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld.benchmark import read_benchmark
from mre_jax.toyworld.judge import score
from tests.evaluation import commands
from tests.evaluation.rows import make_row
from tests.judges.server import MODEL, JudgeServer

SAMPLING = ("--steps", "2", "--size", "keep", "--batch-size", "1")


def evaluate(*arguments):
    return commands.evaluate("real-edit", *arguments)


@pytest.fixture
def copies(toy, tmp_path):
    """A folder in which some system has left every picture as it was."""
    folder = tmp_path / "copies"
    folder.mkdir()
    for case in read_real_edit(toy / "benchmark"):
        shutil.copy(case.original, folder / f"{case.id}.png")
    return folder


def test_a_folder_of_edits_is_judged_exactly(toy, copies, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    assert evaluate(toy / "benchmark", *options) == 0
    rows = read_results(out / "results.jsonl")
    assert len(rows) == 14 * 3 and {row.status for row in rows} == {"ok"}
    benchmark = read_benchmark(toy / "benchmark")
    cases = read_real_edit(toy / "benchmark")
    pictures = [read_image(copies / f"{case.id}.png") for case in cases]
    candidates = np.stack(
        [np.asarray(picture, np.float32) / np.float32(255) for picture in pictures]
    )
    expected = score(benchmark.scenes, benchmark.edits, candidates)
    for column, metric in enumerate(("following", "preserving", "quality")):
        found = {row.item: row for row in select(rows, metric=metric)}
        for case, value in zip(cases, expected[:, column], strict=True):
            assert found[case.id].value == pytest.approx(value)
            assert found[case.id].kind == case.kind and found[case.id].group == case.group
            assert (out / found[case.id].edited).resolve() == copies / f"{case.id}.png"
    printed = capsys.readouterr().out
    assert f"following {expected[:, 0].mean():.4g} accuracy 0.0% (14/14)" in printed
    assert "\n    Style: " in printed


def test_parts_together_are_the_whole(toy, copies, tmp_path):
    options = ("--system", "copy", "--images", copies, "--judge", "toy")
    evaluate(toy / "benchmark", *options, "--out", tmp_path / "whole")
    parts = []
    for number in range(3):
        out = tmp_path / f"part-{number}"
        assert evaluate(toy / "benchmark", *options, "--shard", f"{number}/3", "--out", out) == 0
        parts += read_results(out / "results.jsonl")
    whole = read_results(tmp_path / "whole" / "results.jsonl")
    values = [(row.item, row.metric, row.value, row.provenance) for row in whole]
    assert [(row.item, row.metric, row.value, row.provenance) for row in parts] == values
    with pytest.raises(ConfigError, match="give --images"):
        evaluate(
            *(toy / "benchmark", "--system", "x", "--model", "m", "--judge", "toy"),
            *("--shard", "0/2", "--out", tmp_path / "made"),
        )


def test_a_second_run_asks_nothing_again(toy, copies, tmp_path, monkeypatch):
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    evaluate(toy / "benchmark", *options)
    before = (out / "results.jsonl").read_bytes()
    monkeypatch.setattr("mre_jax.judges.others.toy.ToyJudge.ask", None)
    evaluate(toy / "benchmark", *options)
    assert (out / "results.jsonl").read_bytes() == before


def test_rows_stand_in_the_order_of_the_benchmark(toy, copies, tmp_path, monkeypatch):
    async def ask_backwards(judge, questions, journal, budget):
        for question in reversed(list(questions)):
            verdict = await judge.ask(question)
            journal.append(verdict)
            yield verdict

    monkeypatch.setattr(ToyJudge, "ask_many", ask_backwards, raising=False)
    (copies / "000-3.png").unlink()
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--allow-missing")
    evaluate(toy / "benchmark", *options, "--out", tmp_path / "out")
    rows = read_results(tmp_path / "out/results.jsonl")
    assert [(row.item, row.metric) for row in rows] == [
        (case.id, name) for case in read_real_edit(toy / "benchmark") for name in PERSPECTIVES
    ]


def test_missing_edits_are_rows_of_their_own(toy, copies, tmp_path):
    (copies / "000-3.png").unlink()
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    with pytest.raises(
        DataError, match=r"1 of 14 edited pictures are missing, the first 000-3.png"
    ):
        evaluate(toy / "benchmark", *options)
    evaluate(toy / "benchmark", *options, "--allow-missing")
    rows = read_results(out / "results.jsonl")
    assert {row.item for row in rows if row.status == "missing"} == {"000-3"}
    assert len(rows) == 42
    # The missing one turns up, another is made better.
    shutil.copy(copies / "000-1.png", copies / "000-3.png")
    shutil.copy(copies / "001-1.png", copies / "000-2.png")
    evaluate(toy / "benchmark", *options)
    again = {row.key: row for row in read_results(out / "results.jsonl")}
    assert len(again) == 42 and {row.status for row in again.values()} == {"ok"}
    changed = {row.item for row in rows if again[row.key] != row}
    assert changed == {"000-2", "000-3"}


def test_a_checkpoint_under_a_sweep_of_rewards(toy, editor, tmp_path):
    out = tmp_path / "out"
    options = ("--system", "tiny", "--model", editor, "--judge", "toy", *SAMPLING, "--out", out)
    assert evaluate(toy / "benchmark", *options, "--rewards", "0,5/0/0") == 0
    rows = read_results(out / "results.jsonl")
    assert {row.condition for row in rows} == {"0,0,0", "5,0,0"}
    assert len(rows) == 2 * 14 * 3 and len({row.checkpoint for row in rows}) == 1
    for row in rows:
        assert read_image(out / row.edited).size == (16, 16)
    # The same checkpoint without a reward asks for the best.
    evaluate(toy / "benchmark", *options)
    rows = read_results(out / "results.jsonl")
    assert {row.condition for row in rows} == {"0,0,0", "5,0,0", "5,5,5"}
    # Another checkpoint's values do not take the place of these.
    with pytest.raises(ConfigError, match="was begun with"):
        evaluate(toy / "benchmark", *options, "--dtype", "bfloat16")


def test_a_system_without_a_name_is_refused(toy, copies, tmp_path):
    words = ("--images", copies, "--judge", "toy", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="--system is empty"):
        evaluate(toy / "benchmark", "--system", " ", *words)


def damaged(toy, folder, *, all_of_it=False):
    """A copy of the toy benchmark with a photo, or all, cut short behind the header."""
    shutil.copytree(toy / "benchmark", folder)
    photos = sorted((folder / "images").iterdir())
    for photo in photos if all_of_it else photos[:1]:
        photo.write_bytes(photo.read_bytes()[:-40])
    return folder


@pytest.mark.filterwarnings("default:item ", "default:.*edits are missing")
def test_an_edit_that_cannot_be_made_may_be_missing(toy, editor, tmp_path, capsys):
    data, out = damaged(toy, tmp_path / "data"), tmp_path / "out"
    options = ("--system", "tiny", "--model", editor, "--judge", "toy", *SAMPLING, "--out", out)
    with pytest.raises(DataError, match=r"7 of 14 edits failed.*or let them be .*--allow-missing"):
        evaluate(data, *options)
    assert not (out / "results.jsonl").exists()
    assert evaluate(data, *options, "--allow-missing") == 0
    assert "(7/14, 7 missing)" in capsys.readouterr().out
    rows = read_results(out / "results.jsonl")
    missing = {row.item for row in rows if row.status == "missing"}
    photo = sorted((data / "images").iterdir())[0].stem
    assert len(rows) == 14 * 3 and missing == {f"{photo}-{number}" for number in range(1, 8)}
    # Once the photo is whole again, its edits are made and judged.
    shutil.copytree(toy / "benchmark", data, dirs_exist_ok=True)
    assert evaluate(data, *options) == 0
    assert {row.status for row in read_results(out / "results.jsonl")} == {"ok"}


@pytest.mark.filterwarnings("default:item ", "default:.*edits are missing")
def test_a_run_without_any_edit_is_no_evaluation(toy, editor, tmp_path):
    data, out = damaged(toy, tmp_path / "data", all_of_it=True), tmp_path / "out"
    options = ("--system", "tiny", "--model", editor, "--judge", "toy", *SAMPLING, "--out", out)
    with pytest.raises(DataError, match=r"no edit could be made; its failed\.jsonl says why"):
        evaluate(data, *options, "--allow-missing")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ("--pack", "paired-quality-ours"),
            r"quality of copy is there with prompt_hash '11d1\w+' \(of paper-evaluation\), "
            r"not '\w+' \(of paired-quality-ours\)",
        ),
        (("--pictures", "jpeg:10:64"), "is there with pictures 'as-edited', not 'jpeg:10:64'"),
    ],
)
def test_another_prompt_or_encoding_does_not_replace_values(toy, copies, tmp_path, other, message):
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    evaluate(toy / "benchmark", *options)
    before = (out / "results.jsonl").read_bytes(), (out / "judge.jsonl").read_bytes()
    with pytest.raises(DataError, match=f"{message}.*take another --out"):
        evaluate(toy / "benchmark", *options, *other)
    # Nothing was asked for, let alone paid.
    assert ((out / "results.jsonl").read_bytes(), (out / "judge.jsonl").read_bytes()) == before


def test_rows_say_in_plain_what_decided_them(toy, copies, tmp_path):
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    evaluate(toy / "benchmark", *options)
    (copies / "000-3.png").unlink()
    evaluate(toy / "benchmark", *options[:-1], tmp_path / "less", "--allow-missing")
    rows = [*read_results(out / "results.jsonl"), *read_results(tmp_path / "less")]
    settings = {"model": "toy-1", "pictures": "as-edited", "pack": "paper-evaluation"}
    assert [row.provenance for row in rows] == [settings] * len(rows)
    pack = load_pack("paper-evaluation")
    assert {(row.metric, row.prompt_hash) for row in rows} == {
        (name, pack.prompt(name).hash) for name in pack.perspectives
    }


def test_an_old_folder_goes_on_and_learns_its_settings(toy, copies, tmp_path):
    """Results and journal of before settings were recorded, one edit of which was not judged."""
    out = tmp_path / "out"
    options = ("--system", "copy", "--images", copies, "--judge", "toy", "--out", out)
    evaluate(toy / "benchmark", *options)
    expected = (out / "results.jsonl").read_text()
    for name, field in (("results.jsonl", "provenance"), ("judge.jsonl", "settings")):
        rows = [json.loads(line) for line in (out / name).read_text().splitlines()]
        old = [{k: v for k, v in row.items() if k != field} for row in rows]
        (out / name).write_text("".join(json.dumps(row) + "\n" for row in old[:-1]))
    evaluate(toy / "benchmark", *options)
    assert (out / "results.jsonl").read_text() == expected


@pytest.mark.parametrize(
    "pictures", ["as-edited", "as-edited-jpeg", "as-released", "as-original", "jpeg:75:64"]
)
def test_an_original_of_seven_instructions_is_decoded_once(tmp_path, monkeypatch, pictures):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (90, 60)).save(photo)
    decoded = []

    def count(read, name):
        decoded.append(str(name))
        return read(name)

    monkeypatch.setattr(sent_pictures, "read_image", lambda path: count(read_image, path))
    decode = picture.decode_image
    monkeypatch.setattr(
        picture, "decode_image", lambda data, name: count(lambda name: decode(data, name), name)
    )
    for number in range(7):
        edited = tmp_path / f"{number}.png"
        Image.new("RGB", (48, 32), (number, 0, 0)).save(edited)
        encode_pair(photo, edited, pictures)
    assert decoded.count(str(photo)) == 1


def sent_sizes(photo, edited, pictures):
    pair = encode_pair(photo, edited, pictures)
    return [(file.format, file.size) for file in map(Image.open, map(io.BytesIO, pair))]


def test_pictures_are_sent_as_the_papers_the_scripts_and_the_benchmark_say(tmp_path):
    photo, edited = tmp_path / "photo.png", tmp_path / "edited.png"
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((900, 600)).save(photo)
    Image.new("RGB", (48, 32)).save(edited)
    assert sent_sizes(photo, edited, "as-edited") == [("PNG", (48, 32))] * 2
    assert encode_pair(photo, edited, "as-edited")[1] == edited.read_bytes()
    assert sent_sizes(photo, edited, "as-edited-jpeg") == [("JPEG", (48, 32))] * 2
    # The released script's picture is as sharp as its edit's, 576 by 384, and of the photo's shape.
    assert sent_sizes(photo, edited, "as-released") == [("JPEG", (768, 512))] * 2
    before = Image.open(photo).resize((576, 384), Image.Resampling.LANCZOS)
    expected = io.BytesIO()
    before.resize((768, 512), Image.Resampling.BICUBIC).save(expected, "JPEG")
    assert encode_pair(photo, edited, "as-released")[0] == expected.getvalue()
    # GEdit's brings the edit to the photo's size.
    assert sent_sizes(photo, edited, "as-original") == [("JPEG", (900, 600))] * 2
    with pytest.raises(ConfigError, match=r"want as-is, .*, or as-edited, as-released"):
        check_pictures("other")


@pytest.fixture
def server(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary0123456789abcdef")
    with JudgeServer() as running:
        yield running


def judged_by(server, toy, copies, out, *options):
    model = ("--judge", f"openai:{MODEL}", "--base-url", server.url, "--out", out)
    return evaluate(toy / "benchmark", "--system", "copy", "--images", copies, *model, *options)


def pictures_shown(bodies):
    return {json.dumps(body).count('"image_url": {') for body in bodies}


def test_presets_ask_as_they_say(server, toy, copies, tmp_path, capsys):
    judged_by(server, toy, copies, tmp_path / "paper")
    paper = server.bodies.pop()
    assert paper["temperature"] == 0 and "response_format" in paper
    assert pictures_shown(server.bodies) == {1, 2}
    server.bodies.clear()
    judged_by(server, toy, copies, tmp_path / "ours", "--preset", "ours")
    assert pictures_shown(server.bodies) == {2}  # quality, too, is asked beside the original
    assert all("data:image/jpeg" in json.dumps(body) for body in server.bodies)
    server.bodies.clear()
    judged_by(server, toy, copies, tmp_path / "released", "--preset", "released_code")
    assert "give --pack official:FOLDER" in capsys.readouterr().err
    assert len(server.bodies) == 42
    for body in server.bodies:
        assert body["max_tokens"] == 50 and "max_completion_tokens" not in body
        assert "temperature" not in body and "response_format" not in body
    # What the user says goes before.
    option = ("--judge-option", "max_tokens=60", "--preset", "released_code")
    judged_by(server, toy, copies, tmp_path / "more", *option)
    assert server.bodies[-1]["max_tokens"] == 60


def test_a_perspective_without_any_value_is_no_success():
    rows = [make_row(), make_row(metric="quality", status="invalid", reason="a poem")]
    message = r"quality of a: none of 1 answers has a score \(1 invalid\).*a poem"
    with pytest.raises(ConfigError, match=message):
        check_complete(rows)
    check_complete([rows[0], make_row(metric="quality", item="9", status="ok"), rows[1]])


def test_other_settings_of_a_model_are_refused_before_anything_is_asked(
    server, toy, copies, tmp_path
):
    out = tmp_path / "out"
    judged_by(server, toy, copies, out)
    (row, *_) = read_results(out)
    assert row.provenance | {"base_url": "", "max_tokens_field": "", "system": ""} == {
        "model": MODEL, "base_url": "", "api": "chat", "form": "schema", "temperature": 0.0,
        "max_tokens": 300, "max_tokens_field": "", "seed": None, "detail": None, "system": "",
        "pictures": "as-edited", "pack": "paper-evaluation", "sizes": [[16, 16], [16, 16]],
    }  # fmt: skip
    assert row.provenance["base_url"].startswith("http://127.0.0.1:")
    server.bodies.clear()
    for option, was, now in (
        ("temperature=1.7", "temperature 0.0", "1.7"),
        ("detail=low", "detail None", "'low'"),
        ("form=text", "form 'schema'", "'text'"),
        ("max_tokens=50", "max_tokens 300", "50"),
        ("seed=3", "seed None", "3"),
    ):
        with pytest.raises(DataError, match=f"is there with {was}, not {now}; measure it with"):
            judged_by(server, toy, copies, out, "--judge-option", option)
    assert not server.bodies


def test_rewards_of_a_sweep():
    assert parse_rewards("0,3.5") == ((0.0,) * 3, (3.5,) * 3)
    assert parse_rewards("5/0/0,5") == ((5.0, 0.0, 0.0), (5.0, 5.0, 5.0))
    for bad, message in (
        ("x", "'x' is no score"),
        ("5/5", "want 3 of them"),
        ("6", "not in 0 to 5"),
        ("3,3", "twice"),
        ("", "'' is no score"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_rewards(bad)


def test_what_does_not_fit_is_found_before_any_work(toy, copies, tmp_path):
    common = (toy / "benchmark", "--system", "x", "--out", tmp_path / "out")
    cases = [
        (("--images", copies, "--judge", "oracle"), "judge 'oracle': want one of"),
        (("--images", copies, "--judge", "toy", "--rewards", "0"), "--rewards makes edits"),
        (("--images", copies, "--judge", "toy", "--pack", "mine"), "prompt pack 'mine'"),
        (("--images", copies, "--judge", "toy", "--pictures", "gif"), "picture 'gif'"),
        (("--images", copies, "--judge", "toy", "--judge-option", "a"), "want NAME=VALUE"),
        (("--judge", "toy", "--model", ""), "no model"),
    ]
    for options, message in cases:
        with pytest.raises(ConfigError, match=message):
            evaluate(*common, *options)
    with pytest.raises(ConfigError, match="suite 'other': want one of real-edit, magicbrush"):
        commands.evaluate("other")


def test_one_process_at_a_time(toy, copies, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, ".lock-evaluate"), pytest.raises(BusyError):
        evaluate(
            toy / "benchmark", "--system", "x", "--images", copies, "--judge", "toy", "--out", out
        )


@pytest.mark.slow
def test_kill_9_loses_nothing(toy, editor, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"

    def options(folder):
        model = ("--model", str(editor), "--batch-size", "1")
        return (str(toy / "benchmark"), "--system", "tiny", *model, "--judge", "toy", *SAMPLING,
                "--out", str(folder))  # fmt: skip

    evaluate(*options(whole))
    code = (
        "import sys; from tests.evaluation.commands import evaluate;"
        "sys.exit(evaluate('real-edit', *sys.argv[1:]))"
    )
    watched = [("edits/real-edit/*/rows/*.jsonl", 2), ("results.jsonl", 1)]
    for pattern, count in watched:
        process = subprocess.Popen([sys.executable, "-c", code, *options(out)])
        while process.poll() is None and len(list(out.glob(pattern))) < count:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    evaluate(*options(out))
    found, expected = (
        {row.key: row.value for row in read_results(folder / "results.jsonl")}
        for folder in (out, whole)
    )
    assert found == expected
    assert len(list(out.glob("edits/real-edit/*/images/*"))) == 14
