"""Suites whose benchmark is a table: Emu Edit, GEdit and ImgEdit."""

import io
import json

import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import append_results, read_results, select
from mre_jax.evaluation.statistics.summary import macro_lines
from mre_jax.evaluation.suites import emu_edit, gedit, imgedit
from mre_jax.evaluation.suites.case_table import read_cases, read_rows
from mre_jax.evaluation.system import SystemSpec
from mre_jax.judges.packs.pack import load_pack
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation.commands import evaluate
from tests.evaluation.networks import FakeCLIP, FakeDINO, use
from tests.evaluation.rows import make_row
from tests.judges.server import MODEL, JudgeServer


def png(grey):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (grey,) * 3).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_arrow(path, rows, stream=True):
    pyarrow = pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pyarrow.Table.from_pylist(rows)
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table)


def edits(folder, names, grey=50):
    for name in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(grey))
    return folder


@pytest.fixture
def emu(tmp_path):
    rows = [
        {
            "instruction": f"edit {n}",
            "image": {"bytes": png(100), "path": None},
            "task": task,
            "split": "test",
            "idx": n,
            "hash": f"h{n}",
            "input_caption": "a cat",
            "output_caption": "a black cat",
        }
        for n, task in enumerate(("global", "style"))
    ]
    (tmp_path / "emu").mkdir()
    write_parquet(tmp_path / "emu" / "test-00000-of-00001.parquet", rows)
    return tmp_path / "emu"


def test_emu_edit_from_parquet(emu, tmp_path, monkeypatch):
    use(monkeypatch, clip=FakeCLIP(), dino=FakeDINO())
    made, out = edits(tmp_path / "made", ["h0", "h1"]), tmp_path / "out"
    assert evaluate("emu-edit", emu, "--system", "x", "--images", made, "--out", out) == 0
    rows = {row.metric: row for row in read_results(out / "results.jsonl") if row.item == "h1"}
    assert rows.keys() == {"clip_direction", "clip_i", "clip_t", "dino", "l1"}
    assert rows["l1"].value == pytest.approx(50 / 255)
    assert rows["clip_direction"].value == pytest.approx(50 / 255 + 6)
    assert rows["l1"].kind == "style"
    assert (out / rows["l1"].original).read_bytes() == png(100)


def test_emu_edit_s_pairs_of_equal_captions_have_no_direction(tmp_path, monkeypatch, capsys):
    use(monkeypatch, clip=FakeCLIP())
    captions = (("a cat", "a dog"), ("a cat", " a  cat"))
    rows = [
        {"instruction": "go", "image": "in.png", "task": "local", "hash": f"h{n}",
         "input_caption": before, "output_caption": after}
        for n, (before, after) in enumerate(captions)
    ]  # fmt: skip
    (tmp_path / "in.png").write_bytes(png(9))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made, out = edits(tmp_path / "made", ["h0", "h1"]), tmp_path / "out"
    options = ("--system", "x", "--images", made, "--out", out)
    assert evaluate("emu-edit", tmp_path / "t.jsonl", *options) == 0
    found = {row.item: row for row in select(read_results(out), metric="clip_direction")}
    assert (found["h0"].status, found["h1"].status) == ("ok", "missing")
    assert "clip_direction: 1 of 2 pairs have equal captions" in capsys.readouterr().out


def test_emu_edit_by_the_networks_themselves(emu, clip, dino, tmp_path):
    made, out = edits(tmp_path / "made", ["h0"], grey=100), tmp_path / "out"
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(made / "h1.png")
    options = ("--system", "x", "--images", made, "--clip", clip, "--dino", dino, "--out", out)
    assert evaluate("emu-edit", emu, *options) == 0
    rows = {(row.item, row.metric): row for row in read_results(out / "results.jsonl")}
    # The first is left as it was, the second is another picture.
    for metric, untouched in (("clip_i", 1), ("dino", 1), ("clip_direction", 0), ("l1", 0)):
        assert rows["h0", metric].value == pytest.approx(untouched, abs=1e-9)
        assert abs(rows["h1", metric].value - untouched) > 1e-6
    assert all(-1 <= rows[item, "clip_t"].value <= 1 for item in ("h0", "h1"))
    assert rows["h0", "clip_t"].measure.startswith("CLIP ViT-32/8 (")
    assert rows["h0", "dino"].measure.startswith("DINO ViT-128/7 (")


def test_pictures_are_written_out_once(emu, tmp_path):
    pictures = tmp_path / "pictures"
    first = read_cases(read_rows(emu, "test"), emu, emu_edit.COLUMNS, pictures)
    stamp = first[0].original.stat().st_mtime_ns
    again = read_cases(read_rows(emu, "test"), emu, emu_edit.COLUMNS, pictures)
    assert again == first and again[0].original.stat().st_mtime_ns == stamp


def test_tables_of_text_name_their_pictures(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(1))
    row = {"hash": "a b", "instruction": "go", "image": "cat.png", "task": "add",
           "input_caption": "x", "output_caption": "y"}  # fmt: skip
    table = tmp_path / "table.jsonl"
    table.write_text(json.dumps(row) + "\n")
    (case,) = read_cases(read_rows(table), table, emu_edit.COLUMNS, tmp_path)
    assert case.id == "a-b" and case.original == tmp_path / "cat.png"
    for change, message in (
        ({"image": "dog.png"}, r"table\.jsonl:1: no picture"),
        (
            {"image": "https://a.org/dog.png"},
            r"table\.jsonl:1: https://a\.org/dog\.png is on the web",
        ),
        ({"image": 3}, "no picture in column 'image'"),
        ({"instruction": None}, "no text in column 'instruction'"),
    ):
        table.write_text(json.dumps({**row, **change}) + "\n")
        with pytest.raises(DataError, match=message):
            read_cases(read_rows(table), table, emu_edit.COLUMNS, tmp_path)
    table.write_text("")
    with pytest.raises(DataError, match="the set is empty"):
        read_cases(read_rows(table), table, emu_edit.COLUMNS, tmp_path)
    with pytest.raises(DataError, match=r"want a table in \.csv, .*\.arrow"):
        read_rows(tmp_path / "cat.png")


@pytest.fixture
def benchmark(tmp_path):
    (tmp_path / "cat.png").write_bytes(png(1))
    rows = [
        {"key": f"k{n}{language}", "task_type": f"type{n % 2}", "instruction": f"edit {n}",
         "instruction_language": language, "input_image": "cat.png"}
        for n in range(3) for language in ("en", "cn")
    ]  # fmt: skip
    (tmp_path / "gedit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "gedit.jsonl"


def human(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"human:{path}"


def test_gedit_in_one_language_and_its_own_names(benchmark, tmp_path, capsys):
    names = [f"fullset/type{n % 2}/en/k{n}en" for n in range(3)]
    made, out = edits(tmp_path / "made", names), tmp_path / "out"
    scores = {"k0en": (4, 9), "k1en": (0, 8), "k2en": (1, 1)}
    judge = human(tmp_path / "s.jsonl", [
        {"item": item, "perspective": name, "score": score}
        for item, pair in scores.items() for name, score in zip(("sc", "pq"), pair, strict=True)
    ])  # fmt: skip
    options = ("--system", "x", "--images", made, "--judge", judge, "--out", out)
    for _ in range(2):
        assert evaluate("gedit", benchmark, *options) == 0
    rows = read_results(out / "results.jsonl")
    overall = {row.item: row.value for row in select(rows, metric="overall")}
    assert overall == {"k0en": 6.0, "k1en": 0.0, "k2en": 1.0}
    # Types weigh alike: (3.5 + 0) / 2.
    assert "overall 1.75, mean of the means of 2 types (3/3)" in capsys.readouterr().out


def test_gedit_as_its_authors_give_it_out(tmp_path):
    rows = [
        {"task_type": "motion_change", "key": f"k{n}", "instruction": f"edit {n}",
         "instruction_language": language, "input_image": {"bytes": png(1), "path": None},
         "input_image_raw": {"bytes": png(n), "path": None}, "Intersection_exist": True}
        for n, language in ((1, "en"), (2, "cn"), (3, "en"))
    ]  # fmt: skip
    data = tmp_path / "GEdit-Bench" / "train"
    write_arrow(data / "data-00000-of-00002.arrow", rows[:2])
    write_arrow(data / "data-00001-of-00002.arrow", rows[2:], stream=False)
    made, out = edits(tmp_path / "made", ["k1", "k3"]), tmp_path / "out"
    judge = human(tmp_path / "s.jsonl", [
        {"item": item, "perspective": name, "score": 4}
        for item in ("k1", "k3") for name in ("sc", "pq")
    ])  # fmt: skip
    options = ("--system", "x", "--images", made, "--judge", judge, "--out", out)
    assert evaluate("gedit", data.parent, *options, "--split", "train") == 0
    found = select(read_results(out / "results.jsonl"), metric="overall")
    rows = {row.item: row for row in found}
    assert {item: row.value for item, row in rows.items()} == {"k1": 4.0, "k3": 4.0}
    assert (out / rows["k3"].original).read_bytes() == png(3)  # the raw one
    (data / "data-00001-of-00002.arrow").write_bytes(b"ARROW1\0\0 torn")
    with pytest.raises(DataError, match=r"00001-of-00002\.arrow: damaged, or not Arrow"):
        evaluate("gedit", data, *options)
    (data / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"train/data-\*\.arrow: 1 of 2 files are there"):
        evaluate("gedit", data, *options)


def test_gedit_has_a_number_a_language_and_one_of_the_intersection(tmp_path, capsys):
    """The mean of all, of those that every system of the paper made, and not of both languages."""
    rows = [
        {"task_type": kind, "key": f"k{n}", "instruction": f"edit {n}", "input_image": "in.png",
         "instruction_language": language, "Intersection_exist": shared}
        for n, (kind, language, shared) in enumerate(
            [("a", "en", True), ("a", "en", False), ("b", "EN", True), ("a", "cn", True)]
        )
    ]  # fmt: skip
    (tmp_path / "in.png").write_bytes(png(9))
    (tmp_path / "g.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = [
        {"item": f"k{n}", "perspective": name, "score": score}
        for n, score in enumerate((2, 4, 8, 9)) for name in ("sc", "pq")
    ]  # fmt: skip
    judge, made = (
        human(tmp_path / "s.jsonl", scores),
        edits(tmp_path / "made", [f"k{n}" for n in range(4)]),
    )
    options = ("--system", "x", "--images", made, "--judge", judge)
    assert evaluate("gedit", tmp_path / "g.jsonl", *options, "--out", tmp_path / "en") == 0
    printed = capsys.readouterr().out
    assert "gedit: 1 instructions in 'cn' are left out; --language cn takes them" in printed
    assert "\nen, gedit x (people): overall 5.5, mean of the means of 2 types (3/3)" in printed
    assert "\nen intersection, gedit x (people): overall 5, mean of the means of 2" in printed
    options += ("--language", "all", "--out", tmp_path)
    assert evaluate("gedit", tmp_path / "g.jsonl", *options) == 0
    printed = capsys.readouterr().out
    assert (
        "\nen, gedit x (people): overall 5.5" in printed
        and "\ncn, gedit x (people): overall 9" in printed
    )
    (row,) = (r for r in read_results(tmp_path / "en") if (r.item, r.metric) == ("k0", "sc"))
    assert row.provenance["pictures"] == "as-original"
    assert row.provenance["pack"] == "viescore-ours"
    assert row.subsets == ("en", "en intersection")  # rows say it, so that tables can tell


def test_imgedit_is_judged_by_its_authors_prompt_of_each_type(tmp_path, monkeypatch):
    """Nine types have nine prompts; their scores still go into one mean."""
    pytest.importorskip("openai")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary0123456789abcdef")
    prompt = "TYPE: <edit_prompt>\nCompliance: A number from 1 to 5.\n"
    prompts = {kind: prompt.replace("TYPE", kind) for kind in ("add", "style")}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    entries = {
        key: {"id": "cat.PNG", "prompt": "go", "edit_type": kind}
        for key, kind in (("1", "add"), ("2", "style"))
    }
    (tmp_path / "basic_edit.json").write_text(json.dumps(entries))
    (tmp_path / "singleturn").mkdir()
    (tmp_path / "singleturn" / "cat.png").write_bytes(png(9))
    made, out = edits(tmp_path / "made", ["1", "2"]), tmp_path / "out"
    official = ("--pack", f"official:{tmp_path / 'prompts.json'}", "--concurrency", 1)
    with JudgeServer() as server:
        server.answers = "Compliance: 4"
        model = ("--judge", f"openai:{MODEL}", "--base-url", server.url, *official)
        options = ("--system", "x", "--images", made, "--out", out, *model)
        assert evaluate("imgedit", tmp_path / "basic_edit.json", *options) == 0
    texts = [body["messages"][-1]["content"][0]["text"] for body in server.bodies]
    assert [text.partition(":")[0] for text in texts] == ["add", "style"]
    assert not any("response_format" in body or "temperature" in body for body in server.bodies)
    rows = read_results(out)
    assert [row.value for row in rows] == [4.0, 4.0] and len({row.prompt_hash for row in rows}) == 1
    assert rows[0].provenance["pack"] == "imgedit-official"
    assert macro_lines(rows) == ["imgedit x: overall 4, mean of the means of 2 types (2/2)"]


def test_an_edit_without_a_score_has_no_overall():
    rows = [make_row(metric="sc"), make_row(metric="pq", status="refused", reason="no")]
    (total,) = gedit.overall(rows)
    assert (total.status, total.value, total.reason) == ("refused", None, "no")
    with pytest.raises(ConfigError, match="perspectives sc and pq"):
        gedit.overall(rows[:1])


def test_imgedit_by_its_keys(tmp_path, capsys):
    data = tmp_path / "basic_edit.json"
    entries = {"7": {"id": "animal/cat.png", "prompt": "go", "edit_type": "extract"}}
    data.write_text(json.dumps(entries))
    edits(tmp_path / "singleturn" / "animal", ["cat"])
    judge = human(tmp_path / "s.jsonl", [{"item": "7", "perspective": "overall", "score": 4}])
    made, out = edits(tmp_path / "made", ["7"]), tmp_path / "out"
    options = ("--system", "x", "--images", made, "--judge", judge, "--out", out)
    assert evaluate("imgedit", data, *options) == 0
    (row,) = read_results(out / "results.jsonl")
    assert (row.value, row.kind, row.group) == (4.0, "extract", "animal/cat.png")
    for text, message in (
        ("[]", "want an object"),
        ('{"7": {"id": "x"}}', "entry '7': no text 'prompt'"),
        ("{}", "the set is empty"),
        ('{"7": {"id": "/x.png", "prompt": "go", "edit_type": "a"}}', "'/x.png' leads out of"),
        ('{"7": {"id": "x.png", "prompt": "go", "edit_type": "a"}}', "pictures are missing"),
    ):
        data.write_text(text)
        with pytest.raises(DataError, match=message):
            evaluate("imgedit", data, *options)


def test_imgedit_s_hard_part_has_one_score(tmp_path, capsys):
    data = tmp_path / "UGE_edit.json"
    data.write_text(json.dumps({"1": {"id": "cat.png", "prompt": "go"}}))
    (tmp_path / "cat.png").write_bytes(png(9))
    judge = human(tmp_path / "s.jsonl", [{"item": "1", "perspective": "overall", "score": 2}])
    made, out = edits(tmp_path / "made", ["1"]), tmp_path / "out"
    options = ("--system", "x", "--images", made, "--judge", judge, "--out", out)
    assert evaluate("imgedit", data, *options) == 0
    (row,) = read_results(out / "results.jsonl")
    assert (row.suite, row.value, row.kind) == ("imgedit-uge", 2.0, "")
    assert row.prompt_hash == load_pack("imgedit-uge-ours").prompt("overall").hash
    assert "types" not in capsys.readouterr().out
    options = (*options[:-1], tmp_path / "other", "--pack", "imgedit-ours")
    assert evaluate("imgedit", data, *options) == 0
    (row,) = read_results(tmp_path / "other" / "results.jsonl")
    assert row.prompt_hash == load_pack("imgedit-ours").prompt("overall").hash


SESSIONS = {
    "1": {"id": "cat.png", "turn1": "make it blue", "turn2": "undo that"},
    "2": {"id": "cat.png", "turn1": "add a hat"},
}


def test_imgedit_s_sessions_are_judged_by_what_they_come_to(tmp_path):
    data = tmp_path / "version_backtracking.json"
    data.write_text(json.dumps(SESSIONS))
    (tmp_path / "cat.png").write_bytes(png(9))
    scores = [{"item": key, "perspective": "overall", "score": 3} for key in SESSIONS]
    judge = human(tmp_path / "s.jsonl", scores)
    made, out = edits(tmp_path / "made", ["1-1", "1-2", "2"]), tmp_path / "out"
    options = ("--system", "x", "--images", made, "--judge", judge, "--out", out)
    assert evaluate("imgedit", data, *options) == 0
    first, second = sorted(read_results(out / "results.jsonl"), key=lambda row: row.item)
    assert (first.suite, first.instruction) == ("imgedit-multi", "1. make it blue\n2. undo that")
    assert first.edited.endswith("made/1-2.png") and second.edited.endswith("made/2.png")
    data.write_text(json.dumps({**SESSIONS, "3": {"id": "cat.png", "prompt": "go"}}))
    with pytest.raises(DataError, match="entry '3': no text 'turn1'"):
        evaluate("imgedit", data, *options)


def test_each_turn_edits_what_the_turn_before_it_came_to(tmp_path):
    class Editor:
        def edit(self, cases, folder, reward):
            calls.append([(c.id, c.instruction, c.original.name, folder.name) for c in cases])
            return {case.id: folder / f"{case.id}.png" for case in cases}

    calls = []
    (tmp_path / "cat.png").write_bytes(png(9))
    (tmp_path / "edits.json").write_text(json.dumps(SESSIONS))
    spec = {"system": SystemSpec("x"), "judge": JudgeSpec("toy"), "out": tmp_path / "out"}
    made = imgedit.ImgEdit(data=tmp_path / "edits.json", **spec).make(Editor(), tmp_path, None)
    last = made["imgedit-multi"]
    assert calls == [
        [("1-1", "make it blue", "cat.png", "turn-1"), ("2-1", "add a hat", "cat.png", "turn-1")],
        [("1-2", "undo that", "1-1.png", "turn-2")],
    ]
    assert {key: path.name for key, path in last.items()} == {"1": "1-2.png", "2": "2-1.png"}


@pytest.mark.slow
def test_a_checkpoint_edits_imgedit_s_sessions(editor, tmp_path):
    (tmp_path / "cat.png").write_bytes(png(9))
    (tmp_path / "edits.json").write_text(json.dumps(SESSIONS))
    scores = [{"item": key, "perspective": "overall", "score": 3} for key in SESSIONS]
    judge = human(tmp_path / "s.jsonl", scores)
    options = ("--system", "tiny", "--model", editor, "--steps", 2, "--size", "keep")
    options += ("--batch-size", 1, "--judge", judge, "--out", tmp_path / "out")
    assert evaluate("imgedit", tmp_path / "edits.json", *options) == 0
    rows = {row.item: row for row in read_results(tmp_path / "out" / "results.jsonl")}
    assert rows["1"].edited.endswith("turn-2/images/1-2.png")
    assert rows["2"].edited.endswith("turn-1/images/2-1.png")
    assert all((tmp_path / "out" / row.edited).is_file() for row in rows.values())


def test_macro_means_tell_their_coverage(tmp_path):
    append_results(tmp_path / "r.jsonl", [make_row(), make_row(item="9", status="invalid")])
    (line,) = macro_lines(read_results(tmp_path / "r.jsonl"))
    assert line == "real-edit a: following 3, mean of the means of 1 types (1/2, 1 invalid)"
