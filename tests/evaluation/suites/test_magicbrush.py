import json

import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import read_results, select
from mre_jax.evaluation.suites.magicbrush import MagicBrush
from mre_jax.evaluation.suites.magicbrush_sessions import multi_name, read_sessions, single_name
from mre_jax.evaluation.system import SystemSpec
from tests.evaluation.commands import evaluate
from tests.evaluation.networks import FakeCLIP, FakeDINO, use

GREY = {"input": 100, "output1": 120, "output2": 140}


def picture(path, grey, size=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (grey,) * 3).save(path)


@pytest.fixture
def data(tmp_path):
    """Two sessions, of two turns and of one."""
    folder = tmp_path / "data"
    sessions = {}
    for name, turns in (("11", 2), ("22", 1)):
        sessions[name] = []
        for grey in ("input", *(f"output{n}" for n in range(1, turns + 1))):
            picture(folder / "test" / "images" / name / f"{name}-{grey}.png", GREY[grey])
        for turn in range(1, turns + 1):
            before = f"{name}-output{turn - 1}.png" if turn > 1 else f"{name}-input.png"
            entry = {"input": before, "mask": "m.png", "output": f"{name}-output{turn}.png"}
            sessions[name].append({**entry, "instruction": f"turn {turn}"})
    (folder / "test" / "edit_sessions.json").write_text(json.dumps(sessions))
    for kind, text in (("local", "hat"), ("global", "a man with a hat")):
        captions = {n: {t["output"]: text for t in turns} for n, turns in sessions.items()}
        (folder / "test" / f"{kind}_descriptions.json").write_text(json.dumps(captions))
    return folder


def rename_captions(data, kind, name):
    folder = data / "test"
    (folder / f"{kind}_descriptions.json").rename(folder / name)


def write_masks(data, lines):
    """Masks whose hole is that many lines from the top, at twice the pictures' size."""
    for name, height in lines.items():
        mask = Image.new("RGBA", (32, 32), (255, 255, 255, 255))
        mask.paste((255, 255, 255, 0), (0, 0, 32, 2 * height))
        mask.save(data / "test" / "images" / name.partition("-")[0] / f"{name}.png")
    path = data / "test" / "edit_sessions.json"
    sessions = json.loads(path.read_text())
    for name, turns in sessions.items():
        for number, turn in enumerate(turns, 1):
            turn["mask"] = f"{name}-mask{number}.png"
    path.write_text(json.dumps(sessions))


def upper_half(size):
    half = Image.new("L", size, 0)
    half.paste(255, (0, 0, size[0], size[1] // 2))
    return half


def test_official_names():
    assert [single_name("11-1"), single_name("11-2")] == ["11/11_1", "11/11_inde_2"]
    assert [multi_name("11-1"), multi_name("11-2")] == ["11/11_1", "11/11_iter_2"]


def test_the_official_scripts_pictures_are_measured(data, tmp_path, monkeypatch):
    use(monkeypatch, clip=FakeCLIP(), dino=FakeDINO())
    made = tmp_path / "made"
    # Turn 1 as it should be, turn 2 ten steps too dark alone and twenty in a row; another size.
    for name, grey in (("11/11_1", 120), ("11/11_inde_2", 130), ("11/11_iter_2", 120),
                       ("22/22_1", 120)):  # fmt: skip
        picture(made / f"{name}.png", grey, size=8)
    out = tmp_path / "out"
    assert evaluate("magicbrush", data, "--system", "x", "--images", made, "--out", out) == 0
    rows = read_results(out / "results.jsonl")
    single, multi = (select(rows, suite=f"magicbrush-{turns}") for turns in ("single", "multi"))
    l1 = {row.item: row.value for row in select(single, metric="l1")}
    assert l1 == pytest.approx({"11-1": 0, "11-2": 10 / 255, "22-1": 0})
    l1 = {row.item: row.value for row in select(multi, metric="l1")}
    assert l1 == pytest.approx({"11-2": 20 / 255, "22-1": 0})
    assert {row.group for row in multi} == {"11", "22"}
    clip_t = {
        row.metric: row.value for row in rows if row.item == "22-1" and "clip_t" in row.metric
    }
    grey = 120 / 255
    assert clip_t == pytest.approx(
        {"clip_t": grey + 3, "clip_t_oracle": grey + 3,
         "clip_t_global": grey + 16, "clip_t_global_oracle": grey + 16}
    )  # fmt: skip
    assert {row.metric for row in rows} - clip_t.keys() == {
        "l1", "l2", "psnr", "ssim", "clip_i", "dino"
    }  # fmt: skip
    # The oracle is of the true edit, whatever was made of it.
    (oracle,) = (r for r in select(single, metric="clip_t_oracle") if r.item == "11-2")
    assert oracle.value == pytest.approx(140 / 255 + 3)
    # A session's own row shows where it began.
    (row,) = (row for row in select(multi, metric="l1") if row.item == "11-2")
    assert row.original.endswith("11-input.png") and row.instruction == "turn 2"


def test_perfect_edits_by_the_networks_themselves(data, clip, dino, tmp_path, capsys):
    made, out = tmp_path / "made", tmp_path / "out"
    for name, grey in (("11/11_1", 120), ("11/11_inde_2", 140), ("22/22_1", 120)):
        picture(made / f"{name}.png", grey)
    options = ("--clip", clip, "--dino", dino, "--turns", "single", "--out", out)
    assert evaluate("magicbrush", data, "--system", "x", "--images", made, *options) == 0
    rows = read_results(out / "results.jsonl")
    perfect = {"l1": 0, "l2": 0, "psnr": 100, "ssim": 1, "clip_i": 1, "dino": 1}
    for metric, value in perfect.items():
        found = [row.value for row in select(rows, metric=metric)]
        assert found == pytest.approx([value] * 3, abs=1e-9), metric
    assert "psnr 100 " in capsys.readouterr().out
    for metric in ("clip_t", "clip_t_global"):
        assert all(-1 <= row.value <= 1 for row in select(rows, metric=metric))
    (row,) = select(rows, item="22-1", metric="dino")
    assert row.measure.startswith("DINO ViT-128/7 (")


def test_a_session_ends_with_a_turn_that_cannot_be_made(data, tmp_path):
    class Editor:
        """Makes every edit but the second turn of a session's own result."""

        def edit(self, cases, folder, reward):
            made = [] if folder.name == "multi-2" else [case.id for case in cases]
            folder.mkdir(parents=True)
            for id_ in made:
                picture(folder / f"{id_}.png", 7)
            return {id_: folder / f"{id_}.png" for id_ in made}

    suite = MagicBrush(data=data, out=tmp_path / "out", system=SystemSpec("x"))
    made = suite.make(Editor(), tmp_path / "edits", None)
    assert made["magicbrush-single"].keys() == {"11-1", "11-2", "22-1"}
    assert made["magicbrush-multi"].keys() == {"22-1"}


@pytest.mark.slow
def test_a_checkpoint_edits_turn_by_turn(data, editor, tmp_path):
    out = tmp_path / "out"
    options = ("--model", editor, "--steps", 2, "--size", "keep", "--batch-size", 1)
    assert evaluate("magicbrush", data, "--system", "tiny", *options, "--out", out) == 0
    official = out / "edits" / "magicbrush" / "tiny-5-5-5" / "official"
    names = sorted(path.relative_to(official).as_posix() for path in official.rglob("*.png"))
    assert names == ["11/11_1.png", "11/11_inde_2.png", "11/11_iter_2.png", "22/22_1.png"]
    # Equal noise and instruction, another picture to start from.
    one, other = (official / f"11/11_{kind}_2.png" for kind in ("inde", "iter"))
    assert one.read_bytes() != other.read_bytes()
    # What was made is what is measured, and what the official tree's reader finds.
    rows = read_results(out / "results.jsonl")
    again = tmp_path / "again"
    evaluate("magicbrush", data, "--system", "tiny", "--images", official, "--out", again)
    values = {(r.suite, r.item, r.metric): r.value for r in read_results(again / "results.jsonl")}
    assert values == {(r.suite, r.item, r.metric): r.value for r in rows}


def test_what_changed_outside_the_masks_is_measured_beside_the_original(data, tmp_path):
    folder, made, out = data / "test" / "images", tmp_path / "made", tmp_path / "out"
    write_masks(data, {"11-mask1": 4, "11-mask2": 8, "22-mask1": 16})
    # Each edit is lighter than its original by 51 in the upper half, and as it was in the lower.
    for name, before in (("11/11_1", "11/11-input"), ("11/11_inde_2", "11/11-output1"),
                         ("11/11_iter_2", "11/11-input"), ("22/22_1", "22/22-input")):  # fmt: skip
        original = Image.open(folder / f"{before}.png")
        original.paste(original.point(lambda v: v + 51), (0, 0), upper_half(original.size))
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        original.save(made / f"{name}.png")
    assert evaluate("magicbrush", data, "--system", "x", "--images", made, "--out", out) == 0
    rows = select(read_results(out / "results.jsonl"), metric="l1_outside")
    found = {(row.suite.removeprefix("magicbrush-"), row.item): row.value for row in rows}
    # Of 16 lines 8 are lighter; the mask hides 4 of those in turn 1, all 8 in turn 2 and in a row.
    assert found == pytest.approx(
        {("single", "11-1"): 0.2 * 4 / 12, ("single", "11-2"): 0.0, ("single", "22-1"): None,
         ("multi", "11-2"): 0.0, ("multi", "22-1"): None}
    )  # fmt: skip
    assert {row.status for row in rows if row.value is None} == {"missing"}
    (row,) = (row for row in rows if row.item == "11-1")
    assert "outside the masks" in row.measure


@pytest.mark.parametrize("kind", ["local", "global"])
def test_captions_have_two_names(data, kind):
    """The set ships descriptions; the README of its repository speaks of captions."""
    expected = read_sessions(data)
    rename_captions(data, kind, f"{kind}_captions.json")
    assert read_sessions(data) == expected
    same = (data / "test" / f"{kind}_captions.json").read_bytes()
    (data / "test" / f"{kind}_descriptions.json").write_bytes(b"\xef\xbb\xbf" + same)
    assert read_sessions(data) == expected
    (data / "test" / f"{kind}_descriptions.json").write_text("{}")
    message = f"{kind}_descriptions.json and {kind}_captions.json differ; keep one"
    with pytest.raises(DataError, match=message):
        read_sessions(data)


def test_captions_that_are_not_there_are_said(data, tmp_path, monkeypatch):
    use(monkeypatch, clip=FakeCLIP())
    rename_captions(data, "global", "other.json")
    for name in ("11/11_1", "11/11_inde_2", "22/22_1"):
        picture(tmp_path / "made" / f"{name}.png", 120)
    options = ("--images", tmp_path / "made", "--turns", "single", "--out", tmp_path / "out")
    with pytest.warns(
        UserWarning, match=r"no global_descriptions.json or global_captions.json: no"
    ):
        evaluate("magicbrush", data, "--system", "x", *options)
    metrics = {row.metric for row in read_results(tmp_path / "out")}
    assert "clip_t" in metrics and "clip_t_global" not in metrics


def test_missing_turns_are_named(data, tmp_path):
    picture(tmp_path / "made" / "11" / "11_1.png", 1)
    options = ("--system", "x", "--images", tmp_path / "made", "--out", tmp_path / "out")
    with pytest.raises(DataError, match=r"2 of 3 .* missing, the first 11/11_inde_2\.png"):
        evaluate("magicbrush", data, *options)
    with pytest.raises(ConfigError, match="--rewards"):
        evaluate("magicbrush", data, *options, "--rewards", "0,5")


def test_damaged_sets_are_refused(data):
    target = data / "test" / "images" / "11" / "11-output2.png"
    target.unlink()
    with pytest.raises(DataError, match=r"11-output2\.png is missing"):
        read_sessions(data)
    picture(target, 1)
    captions = data / "test" / "local_descriptions.json"
    text = captions.read_text()
    captions.write_text("{}")
    with pytest.raises(DataError, match="no caption in the local ones"):
        read_sessions(data)
    captions.write_text(text)
    sessions = data / "test" / "edit_sessions.json"
    for text, message in (
        ("[]", "want an object of sessions"),
        ("{}", "the set is empty"),
        ('{"11": []}', "session 11: want a list of turns"),
        ('{"11": [{"input": "a"}]}', "session 11, turn 1: no text 'output'"),
        (
            '{"11": [{"input": "../22/22-input.png", "output": "b", "instruction": "c"}]}',
            "turn 1: '../22/22-input.png' leads out of",
        ),
    ):
        sessions.write_text(text)
        with pytest.raises(DataError, match=message):
            read_sessions(data)
