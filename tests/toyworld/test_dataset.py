"""`mre toy`: public layouts, the same bytes every time, and a run that can be stopped."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mre_jax import cli
from mre_jax.data.batches.pairs import pair_up
from mre_jax.data.prepare import PrepareSpec, prepare
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld import dataset
from mre_jax.toyworld.benchmark import read_benchmark
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.toyworld.edits import Edits, apply, instructions
from mre_jax.toyworld.judge import score
from mre_jax.toyworld.scene import Scenes, render

SMALL = Settings(examples=40, size=32, benchmark=3)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("toy") / "world"
    write_dataset(out, SMALL, workers=1)
    return out


def test_the_triplets_are_an_instruct_pix2pix_folder(toy):
    seeds = read_json(toy / "triplets" / "seeds.json")
    assert [name for name, _ in seeds] == [f"{index:07d}" for index in range(40)]
    for name, (seed,) in seeds:
        folder = toy / "triplets" / name
        assert {path.name for path in folder.iterdir()} == {
            "prompt.json", f"{seed}_0.jpg", f"{seed}_1.jpg", "metadata.jsonl",
        }  # fmt: skip
        assert set(read_json(folder / "prompt.json")) == {"edit", "input", "output"}
        assert json.loads((folder / "metadata.jsonl").read_text())["seed"] == int(seed)
        for number in (0, 1):
            with Image.open(folder / f"{seed}_{number}.jpg") as image:
                assert image.size == (32, 32)


def test_the_rewards_have_the_form_of_reward_edit(toy):
    rewards = read_json(toy / "RewardEdit.json")
    assert list(rewards) == [f"{index:07d}" for index in range(40)]
    for perspectives in rewards.values():
        assert len(perspectives) == 3
        for reward in perspectives:
            assert set(reward) == {"Score", "Negative Prompt"}
            assert reward["Score"] in range(6)
            assert (reward["Score"] == 5) == (reward["Negative Prompt"] == "None")


def test_a_stored_score_is_the_judges_of_the_stored_picture(toy):
    for name, rewards in read_json(toy / "RewardEdit.json").items():
        row = json.loads((toy / "triplets" / name / "metadata.jsonl").read_text())
        with Image.open(toy / "triplets" / name / f"{row['seed']}_1.jpg") as image:
            edited = np.asarray(image, np.float32)[None] / np.float32(255)
        judged = score(Scenes.from_json([row["scene"]]), Edits.from_json([row["edit"]]), edited)
        assert np.rint(judged[0]).tolist() == [reward["Score"] for reward in rewards]
        prompt = read_json(toy / "triplets" / name / "prompt.json")
        scenes, edits = Scenes.from_json([row["scene"]]), Edits.from_json([row["edit"]])
        assert instructions(scenes, edits) == [prompt["edit"]]


def test_the_benchmark_has_the_layout_of_real_edit(toy):
    words = read_json(toy / "benchmark" / "instructions.json")
    assert {path.name for path in (toy / "benchmark" / "images").iterdir()} == set(words)
    assert len(words) == 3
    for sentences in words.values():
        matches = [re.fullmatch(r"(\d)\.\s*([A-Za-z]+):\s*(.+)", text) for text in sentences]
        assert [match[1] for match in matches] == list("1234567")
        assert [match[2] for match in matches] == list(EDIT_TYPES)


def test_ideal_edits_of_the_benchmark_get_full_marks_from_its_own_files(toy):
    benchmark = read_benchmark(toy / "benchmark")
    assert len(benchmark.files) == len(benchmark.scenes) == 21
    ideal = render(apply(benchmark.scenes, benchmark.edits), 32)
    np.testing.assert_allclose(score(benchmark.scenes, benchmark.edits, ideal), 5, atol=1e-5)
    with Image.open(toy / "benchmark" / "images" / benchmark.files[7]) as image:
        stored = np.asarray(image, np.float32) / 255
    assert abs(stored - render(benchmark.scenes[7:8], 32)[0]).mean() < 0.02


def test_a_damaged_benchmark_is_named(tmp_path):
    (tmp_path / "scenes.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"scenes\.json"):
        read_benchmark(tmp_path)


def test_more_processes_write_the_same_bytes(toy, tmp_path):
    write_dataset(tmp_path / "again", SMALL, workers=2)
    assert contents(tmp_path / "again") == contents(toy)


def test_a_small_set_is_the_beginning_of_a_large_one(toy, tmp_path):
    write_dataset(tmp_path / "less", Settings(examples=9, size=32, benchmark=3), workers=1)
    large = contents(toy / "triplets")
    for name, content in contents(tmp_path / "less" / "triplets").items():
        assert name == "seeds.json" or large[name] == content
    assert contents(tmp_path / "less" / "benchmark") == contents(toy / "benchmark")
    rewards = read_json(toy / "RewardEdit.json")
    less = read_json(tmp_path / "less" / "RewardEdit.json")
    assert list(less.items()) == list(itertools.islice(rewards.items(), 9))


@pytest.mark.parametrize("writes", [0, 5, 37])
def test_a_stopped_run_is_finished_by_the_same_command(toy, tmp_path, monkeypatch, writes):
    original, count = dataset.write_folder, itertools.count()

    def dies(folder, files):
        if next(count) == writes:
            half = folder.with_name(f".{folder.name}.part")
            half.mkdir(parents=True)
            (half / "prompt.json").write_bytes(b"{")
            raise KeyboardInterrupt
        original(folder, files)

    monkeypatch.setattr(dataset, "write_folder", dies)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "world", SMALL, workers=1)
    assert not (tmp_path / "world" / "triplets" / "seeds.json").exists()
    monkeypatch.undo()
    write_dataset(tmp_path / "world", SMALL, workers=1)
    assert contents(tmp_path / "world") == contents(toy)


def test_other_settings_are_refused_and_nothing_is_touched(toy):
    before = contents(toy)
    with pytest.raises(ConfigError, match=r"was begun with other settings: .*seed was 0 and is 1"):
        write_dataset(toy, Settings(examples=40, size=32, benchmark=3, seed=1), workers=1)
    assert contents(toy) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("do not lose")
    with pytest.raises(ConfigError, match="no toy world"):
        write_dataset(tmp_path, SMALL, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    def full(folder, files):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(dataset, "write_folder", full)
    with pytest.raises(DataError, match="No space left") as caught:
        write_dataset(tmp_path / "world", SMALL, workers=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"examples": 0},
        {"size": 8},
        {"seed": -1},
        {"benchmark": 0},
        {"variants": 0},
        {"clean_share": 1.1},
        {"judge_noise": -1},
    ],
)
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong)).removeprefix("judge_")):
        Settings(**wrong)


def test_a_pool_without_workers_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="workers"):
        write_dataset(tmp_path / "world", SMALL, workers=0)
    assert not (tmp_path / "world").exists()


def test_png_files_are_exact_and_the_histogram_is_printed(tmp_path, capsys):
    options = ["--examples", "7", "--size", "32", "--format", "png", "--benchmark", "1"]
    argv = ["toy", "--out", str(tmp_path / "world"), *options, "--workers", "1"]
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^following .*%$", printed, re.MULTILINE)
    (source,) = (tmp_path / "world" / "triplets" / "0000000").glob("*_0.png")
    row = json.loads((source.parent / "metadata.jsonl").read_text())
    with Image.open(source) as image:
        stored = np.asarray(image, np.float32) / 255
    exact = render(Scenes.from_json([row["scene"]]), 32)[0]
    assert abs(stored - exact).max() <= 0.5 / 255 + 1e-6


def test_more_than_half_of_the_scores_are_below_five():
    rewards = []
    for start in range(0, 320, 32):
        triplets = dataset.draw_triplets(0, range(start, start + 32), 32)
        files = [dataset.encode(image, "jpg") for image in triplets.edited]
        rewards.append(np.rint(dataset._judged(triplets, files)))
    assert ((np.concatenate(rewards) < 5).mean(0) > 0.5).all()


TWO = Settings(examples=9, size=32, benchmark=1, image_format="png", variants=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    out = tmp_path_factory.mktemp("variants") / "world"
    write_dataset(out, TWO, workers=1)
    return out


class TestVariants:
    """Several triplets of each scene and instruction, as InstructPix2Pix's folders hold them."""

    def test_the_first_are_those_of_a_world_without(self, world, tmp_path):
        """Picture for picture; and the second are of the same originals."""
        plain = dataclasses.replace(TWO, variants=1)
        write_dataset(tmp_path / "plain", plain, workers=1)
        triplets, damaged = contents(world / "triplets"), 0
        for name, content in contents(tmp_path / "plain" / "triplets").items():
            if name.endswith(".png"):
                assert triplets[name] == content
        for name, (one, two) in read_json(world / "triplets" / "seeds.json"):
            assert triplets[f"{name}/{one}_0.png"] == triplets[f"{name}/{two}_0.png"]
            damaged += triplets[f"{name}/{one}_1.png"] != triplets[f"{name}/{two}_1.png"]
        assert damaged >= 8

    def test_each_has_its_reward_and_its_line_of_metadata(self, world):
        rewards = read_json(world / "RewardEdit.json")
        assert len(rewards) == 18
        for name, seeds in read_json(world / "triplets" / "seeds.json"):
            lines = (world / "triplets" / name / "metadata.jsonl").read_text().splitlines()
            for seed, row in zip(seeds, map(json.loads, lines), strict=True):
                assert str(row["seed"]) == seed
                reward = rewards[f"{name}_{seed}"]
                assert [one["Score"] for one in reward] == row["scores"]
                assert np.rint(row["judged"]).tolist() == row["scores"]

    @pytest.mark.parametrize("seeds", ["drawn", "all"])
    def test_they_are_prepared_and_make_pairs(self, world, tmp_path, seeds):
        pytest.importorskip("tensorflow_datasets")
        spec = PrepareSpec(
            "instruct_pix2pix",
            world / "triplets",
            out=tmp_path / "shards",
            options={"seeds": seeds},
            rewards=world / "RewardEdit.json",
        )
        assert prepare(spec).manifest.count == 18
        source = RecordSource(tmp_path / "shards")
        pairs = pair_up(source)
        assert len(pairs) + pairs.alike == 9
        for better, worse in pairs.records.tolist():
            assert source[better].original == source[worse].original
            assert source[better].instruction == source[worse].instruction
            assert sum(source[better].scores) > sum(source[worse].scores)

    def test_the_command_counts_triplets(self, tmp_path, capsys):
        options = ["--examples", "7", "--size", "16", "--benchmark", "1", "--variants", "3"]
        assert cli.main(["toy", "--out", str(tmp_path / "world"), *options, "--workers", "1"]) == 0
        assert "21 triplets, 1 held-out scenes" in capsys.readouterr().out


def test_a_world_of_an_earlier_version_has_the_same_settings():
    assert set(SMALL.to_dict()) == {"examples", "seed", "size", "image_format", "benchmark"}
    other = dataclasses.replace(SMALL, clean_share=0.25).to_dict()
    assert other == {**SMALL.to_dict(), "clean_share": 0.25}


def test_a_judge_that_errs_gives_other_scores_to_the_same_pictures(toy, tmp_path):
    """What they are worth stays in the metadata; words follow the scores."""
    settings = dataclasses.replace(SMALL, judge_noise=1.0, judge_bias=0.5)
    erring = write_dataset(tmp_path / "world", settings, workers=1)
    exact, apart = read_json(toy / "RewardEdit.json"), []
    pictures, others = (contents(x / "triplets") for x in (toy, tmp_path / "world"))
    for name, content in pictures.items():
        if name.endswith(".jpg"):
            assert others[name] == content
    for name, rewards in erring.items():
        row, was = (json.loads(x[f"{name}/metadata.jsonl"]) for x in (others, pictures))
        assert row["judged"] == was["judged"]
        assert [one["Score"] for one in rewards] == row["scores"]
        for one, before in zip(rewards, exact[name], strict=True):
            assert (one["Score"] == 5) == (one["Negative Prompt"] == "None")
            apart.append(one["Score"] - before["Score"])
    assert len(set(apart)) >= 4
    assert np.mean(apart) > 0
