import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.masked import masked_values
from mre_jax.evaluation.results import read_results, select
from mre_jax.evaluation.suites.reason_edit import ReasonEdit
from mre_jax.evaluation.suites.reason_edit_folder import REASONING, UNDERSTANDING, read_folder
from mre_jax.evaluation.system import SystemSpec
from mre_jax.evaluation.tables.fill import build
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation.commands import evaluate
from tests.evaluation.networks import FakeCLIP, brightness, use
from tests.evaluation.reason_edit import FOLDERS, write_benchmark, write_edits, write_mask

METRICS = {"psnr_masked", "ssim_masked", "mse_masked"}
PEOPLE = "item,perspective,score\nReasoning-0001,ins_align,1\nReasoning-0002,ins_align,0"
PARTS = ("reason-edit-understanding", "reason-edit-reasoning")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("reason-edit") / "data")


@pytest.fixture
def own(data, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(data, tmp_path / "own")


@pytest.fixture
def made(data, tmp_path):
    return write_edits(data, tmp_path / "made")


class FakeLPIPS:
    measure = "fake LPIPS"

    def distance(self, pairs):
        return [float(np.abs(one - other).max()) for one, other in pairs]


class ScoringCLIP(FakeCLIP):
    def clip_score(self, pictures, texts):
        return [100 * brightness(p) + len(t) for p, t in zip(pictures, texts, strict=True)]


def test_both_groups_are_measured_class_by_class(data, made, tmp_path, monkeypatch, capsys):
    use(monkeypatch, clip=ScoringCLIP(), lpips=FakeLPIPS())
    out = tmp_path / "out"
    assert evaluate("reason-edit", data, "--system", "x", "--images", made, "--out", out) == 0
    rows = read_results(out)
    assert {row.metric for row in rows} == {*METRICS, "lpips_masked", "clip_score"}
    understood, reasoned = (select(rows, suite=part, metric="psnr_masked") for part in PARTS)
    assert len(understood) == 10 and len(reasoned) == 2
    assert [row.kind for row in understood[::2]] == [
        "Left-Right", "Relative-Size", "Mirror", "Color", "Multiple-Objects"
    ]  # fmt: skip
    (row,) = select(reasoned, item="Reasoning-0002")
    folder = data / "6-Reasoning"
    edited = made / "Reasoning-0002.png"
    (values,) = masked_values([(edited, folder / "0002.png", folder / "0002_mask.jpg")])
    assert row.value == values["psnr_masked"]
    assert row.instruction == "turn thing 2 into a cat"
    # Each edit has its own crop and phrase.
    crop = Image.open(edited).resize((256, 256), Image.Resampling.BICUBIC)
    grey = Image.open(folder / "0002_mask.jpg").resize((256, 256), Image.Resampling.NEAREST)
    y, x = np.nonzero(np.asarray(grey))
    crop = crop.crop((x.min(), y.min(), x.max(), y.max()))
    (score,) = select(rows, item="Reasoning-0002", metric="clip_score")
    assert score.value == pytest.approx(100 * brightness(crop) + len("a cat 2"))
    assert score.measure == "fake CLIP, 256x256, crop to the mask's box"
    said = capsys.readouterr().out
    mean = np.mean([row.value for row in understood])
    assert f"{PARTS[0]} x: psnr_masked {mean:.4g} (10/10)" in said
    assert "    Relative-Size: " in said and f"{PARTS[1]} x: psnr_masked " in said


def test_the_networks_themselves_know_an_untouched_picture(data, clip, tmp_path):
    pytest.importorskip("torch")
    from tests.evaluation.metrics.lpips_reference import random_lpips, write_lpips

    made = write_edits(data, tmp_path / "made", change=0)
    shutil.copy(data / "6-Reasoning" / "0001.png", made / "Reasoning-0002.png")
    write_lpips(tmp_path, random_lpips())
    options = ("--group", "reasoning", "--clip", clip, "--lpips", tmp_path, "--out", tmp_path / "o",
               "--metric-batch-size", 1)  # fmt: skip
    assert evaluate("reason-edit", data, "--system", "x", "--images", made, *options) == 0
    rows = {(row.metric, row.item): row for row in read_results(tmp_path / "o")}
    assert len(rows) == 10
    same, other = (rows["lpips_masked", f"Reasoning-000{n}"] for n in (1, 2))
    assert same.value < 1e-12 and other.value > 1e-3  # equal but for the order of sums
    assert same.measure.startswith("LPIPS SqueezeNet (")
    scores = [rows["clip_score", f"Reasoning-000{n}"].value for n in (1, 2)]
    assert all(0 <= score <= 100 for score in scores)
    assert [rows["psnr_masked", f"Reasoning-000{n}"].value == 100 for n in (1, 2)] == [True, False]


def test_the_official_scripts_pictures_are_found(data, made, tmp_path):
    official = tmp_path / "official"
    for name, edited in {**UNDERSTANDING, **REASONING}.items():
        (official / edited).mkdir(parents=True)
        for number in (1, 2):
            kind = name.partition("-")[2]
            target = official / edited / f"000{number}_T7.5_I1.5.png"
            shutil.copy(made / f"{kind}-000{number}.png", target)
    found = []
    for images in (made, official):
        suite = ReasonEdit(
            data=data, out=tmp_path / images.name, system=SystemSpec("x", images=images)
        )
        found.append({(row.item, row.metric): row.value for row in suite.evaluate()})
    assert found[0] == found[1] and len(found[0]) == 12 * 3


def test_people_say_what_was_followed_and_the_tables_show_it(data, made, tmp_path):
    people = tmp_path / "people.csv"
    lines = [
        f"{kind}-000{number},ins_align,{score},{who}"
        for kind in (name.partition("-")[2] for name in FOLDERS)
        for number in (1, 2)
        for who, score in (("a", 1), ("b", int(number == 1)))
    ]
    people.write_text("item,perspective,score,annotator\n" + "\n".join(lines))
    system = SystemSpec("SmartEdit-7B", images=made)
    out = tmp_path / "out"
    suite = ReasonEdit(data=data, out=out, system=system, judge=JudgeSpec(f"human:{people}"))
    rows = suite.evaluate()
    assert {row.metric for row in rows} == {*METRICS, "ins_align"}
    assert suite.evaluate() == rows
    (row,) = (r for r in rows if r.item == "Color-0002" and r.metric == "ins_align")
    assert row.value == 0.5 and row.people
    table = build(12, read_results(out), paper=True)
    ours, theirs = table.rows
    cells = {
        column.heading: cell for column, cell in zip(table.layout.columns, ours.cells, strict=True)
    }
    assert cells["Ins-align (people)"].value == 0.75 and cells["Ins-align (people)"].paper == 0.712
    assert cells["Ins-align (judge)"].value is None
    assert cells["PSNR"].value == pytest.approx(
        np.mean([row.value for row in select(rows, suite=PARTS[0], metric="psnr_masked")])
    )
    assert cells["PSNR"].paper == 22.049 and cells["MSE ↓"].paper is None
    assert theirs.label == "SmartEdit-13B" and theirs.cells[0].value is None
    assert str(table).startswith("Further table 12: Reason-Edit, understanding\n")
    assert "recalled, to be verified" in str(table) and "torchmetrics up to 1.4" in str(table)


def test_a_judge_stands_beside_people(data, made, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text(PEOPLE)
    suite = ReasonEdit(
        data=data, out=tmp_path / "out", group="reasoning", system=SystemSpec("x", images=made),
        judge=JudgeSpec(f"human:{people}"),
    )  # fmt: skip
    rows = suite.evaluate()
    judged = [
        dataclasses.replace(row, people=False, measure="gpt", prompt_hash="other", value=1.0)
        for row in select(rows, metric="ins_align")
    ]
    (row,) = (row for row in build(13, [*rows, *judged]).rows if row.label == "x")
    values = [cell.value for cell in row.cells]
    assert values[4:6] == [0.5, 1.0]
    with pytest.raises(DataError, match="ins_align"):
        build(13, [*rows, *judged, dataclasses.replace(judged[0], system="y", measure="else")])


def test_ins_align_is_estimated_and_asked_for_with_one_question_a_picture(
    data, made, tmp_path, capsys
):
    options = ("--system", "x", "--images", made, "--judge", "openai:gpt-4o", "--dry-run")
    assert evaluate("reason-edit", data, *options, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "12" in printed.out and "the wording is ours" in printed.err
    with pytest.raises(ConfigError, match="no --judge"):
        evaluate("reason-edit", data, "--system", "x", "--images", made, "--dry-run",
                 "--out", tmp_path / "out")  # fmt: skip


@pytest.mark.slow
def test_a_checkpoint_edits_once_for_both(data, editor, tmp_path):
    people = tmp_path / "people.csv"
    people.write_text(PEOPLE)
    out = tmp_path / "out"
    options = ("--model", editor, "--steps", 2, "--size", "16x16", "--batch-size", 1)
    options += ("--judge", f"human:{people}", "--group", "reasoning", "--out", out)
    assert evaluate("reason-edit", data, "--system", "tiny", *options) == 0
    rows = read_results(out)
    assert {row.metric for row in rows} == {*METRICS, "ins_align"} and len(rows) == 8
    assert {row.status for row in rows} == {"ok"}


def damaged(own, change):
    change(own / "3-Mirror")
    with pytest.raises(DataError) as error:
        read_folder(own / "3-Mirror")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_does_not_pair_is_named(own):
    def without_mask(folder):
        (folder / "0002_mask.jpg").unlink()

    said = damaged(own, without_mask)
    assert "1 masks (*_mask.jpg) of 2 pictures; 0002.png has none: add 0002_mask.jpg" in said
    write_mask(own / "3-Mirror" / "0002_mask.jpg")

    def another_mask(folder):
        write_mask(folder / "0003_mask.jpg")

    assert "0003_mask.jpg belongs to none: take it away" in damaged(own, another_mask)
    (own / "3-Mirror" / "0003_mask.jpg").unlink()

    def other_size(folder):
        write_mask(folder / "0001_mask.jpg", (64, 32))

    assert "0001_mask.jpg: 64x32, but 0001.png is 64x64; make it" in damaged(own, other_size)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a CLIP: b\n", "text.txt: 1 lines for 2 pictures (*.png); want one each"),
        ("a CLIP: b\nc CLIP: d\ne CLIP: f", "3 lines for 2 pictures"),
        ("a CLIP: b\nturn it", "text.txt:2: 'turn it': want INSTRUCTION CLIP: WHAT"),
        ("a CLIP: b\nturn it CLIP: ", "text.txt:2: "),
        ("a CLIP: b\n\nc CLIP: d", "3 lines for 2 pictures"),
    ],
)
def test_lines_go_with_pictures(own, text, message):
    def write(folder):
        (folder / "3-Mirror_text.txt").write_text(text)

    assert message in damaged(own, write)


def test_a_folder_has_one_text(own):
    def second(folder):
        (folder / "more.txt").write_text("a")

    assert "want one .txt of instructions in it, found 3-Mirror_text.txt, more.txt" in damaged(
        own, second
    )


def test_a_class_that_is_not_there_is_named(own, tmp_path):
    shutil.rmtree(own / "6-Reasoning")
    system = SystemSpec("x", images=tmp_path)
    suite = ReasonEdit(data=own, out=tmp_path / "out", system=system)
    with pytest.raises(DataError, match="6-Reasoning: no such folder; give the folder of 1-Left"):
        _ = suite.parts
    half = ReasonEdit(data=own, out=tmp_path / "out", system=system, group="understanding")
    assert list(half.parts) == [PARTS[0]]


def test_names_that_sort_differently_are_paired_by_name(tmp_path):
    data = write_benchmark(tmp_path / "data", count=2)
    folder = data / "6-Reasoning"
    for old, new in (("0001", "1"), ("0002", "10")):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
        (folder / f"{old}_mask.jpg").rename(folder / f"{new}_mask.jpg")
    read = read_folder(folder)
    assert [case.masks[0].name for case in read.cases] == ["1_mask.jpg", "10_mask.jpg"]
    assert "gives 1.png the mask 10_mask.jpg" in read.note
    suite = ReasonEdit(data=data, out=tmp_path / "out", system=SystemSpec("x", images=tmp_path))
    assert suite.notes() == [read.note]


def test_other_names_are_paired_in_order(tmp_path):
    folder = write_benchmark(tmp_path / "data", count=2) / "6-Reasoning"
    (folder / "0002_mask.jpg").rename(folder / "0003_mask.jpg")
    read = read_folder(folder)
    assert [case.masks[0].name for case in read.cases] == ["0001_mask.jpg", "0003_mask.jpg"]
    assert "0002.png has no mask of its name, and 0003_mask.jpg no picture" in read.note
