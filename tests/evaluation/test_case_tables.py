"""Suites whose benchmark is a table: Emu Edit, GEdit and ImgEdit."""

import io
import json

import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation import emu_edit, gedit, imgedit
from mre_jax.evaluation.case_table import read_cases, read_rows
from mre_jax.evaluation.results import append_results, read_results, select
from mre_jax.evaluation.summary import macro_lines
from tests.evaluation.commands import run
from tests.evaluation.networks import FakeCLIP, FakeDINO
from tests.evaluation.rows import make_row


def png(grey):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (grey,) * 3).save(file, "PNG")
    return file.getvalue()


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


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
    monkeypatch.setattr(emu_edit, "load_clip", lambda args: FakeCLIP())
    monkeypatch.setattr(emu_edit, "load_dino", lambda args: FakeDINO())
    made, out = edits(tmp_path / "made", ["h0", "h1"]), tmp_path / "out"
    assert run(emu_edit, emu, "--system", "x", "--images", made, "--out", out) == 0
    rows = {row.metric: row for row in read_results(out / "results.jsonl") if row.item == "h1"}
    assert rows.keys() == {"clip_direction", "clip_i", "clip_t", "dino", "l1"}
    assert rows["l1"].value == pytest.approx(50 / 255)
    assert rows["clip_direction"].value == pytest.approx(50 / 255 + 6)
    assert rows["l1"].kind == "style"
    assert (out / rows["l1"].original).read_bytes() == png(100)


def test_emu_edit_by_the_networks_themselves(emu, clip, dino, tmp_path):
    made, out = edits(tmp_path / "made", ["h0"], grey=100), tmp_path / "out"
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(made / "h1.png")
    options = ("--system", "x", "--images", made, "--clip", clip, "--dino", dino, "--out", out)
    assert run(emu_edit, emu, *options) == 0
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
        ({"image": 3}, "no picture in column 'image'"),
        ({"instruction": None}, "no text in column 'instruction'"),
    ):
        table.write_text(json.dumps({**row, **change}) + "\n")
        with pytest.raises(DataError, match=message):
            read_cases(read_rows(table), table, emu_edit.COLUMNS, tmp_path)
    table.write_text("")
    with pytest.raises(DataError, match="the set is empty"):
        read_cases(read_rows(table), table, emu_edit.COLUMNS, tmp_path)
    with pytest.raises(DataError, match=r"want \.parquet"):
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
        assert run(gedit, benchmark, *options) == 0
    rows = read_results(out / "results.jsonl")
    overall = {row.item: row.value for row in select(rows, metric="overall")}
    assert overall == {"k0en": 6.0, "k1en": 0.0, "k2en": 1.0}
    # Types weigh alike: (3.5 + 0) / 2.
    assert "overall 1.75, mean of the means of 2 types (3/3)" in capsys.readouterr().out


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
    assert run(imgedit, data, *options) == 0
    (row,) = read_results(out / "results.jsonl")
    assert (row.value, row.kind, row.group) == (4.0, "extract", "animal/cat.png")
    for text, message in (
        ("[]", "want an object"),
        ('{"7": {"id": "x"}}', "entry '7': no text 'prompt'"),
        ("{}", "the set is empty"),
        ('{"7": {"id": "x.png", "prompt": "go", "edit_type": "a"}}', "pictures are missing"),
    ):
        data.write_text(text)
        with pytest.raises(DataError, match=message):
            run(imgedit, data, *options)


def test_macro_means_tell_their_coverage(tmp_path):
    append_results(tmp_path / "r.jsonl", [make_row(), make_row(item="9", status="invalid")])
    (line,) = macro_lines(read_results(tmp_path / "r.jsonl"))
    assert line == "real-edit a: following 3, mean of the means of 1 types (1/2, 1 invalid)"
