"""`mre prepare`: the same bytes however often it is stopped, and everything kept."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from mre_jax import cli
from mre_jax.data.join import join
from mre_jax.data.records.example import NAMES, decode_triplet
from mre_jax.data.records.index import index_path
from mre_jax.data.records.lengths import lengths_path
from mre_jax.data.records.manifest import check_manifest
from mre_jax.data.records.tfrecord import read_records
from mre_jax.data.sources import open_source, parse_options
from mre_jax.errors import ConfigError
from mre_jax.io import files
from mre_jax.reward.file import read_rewards
from tests.data.pictures import picture
from tests.data.prepared import EXAMPLES, SHARDS, arguments, content, prepare_toy, write_toy
from tests.data.read import read_triplets

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def prepared(toy, tmp_path_factory):
    return prepare_toy(toy, tmp_path_factory.mktemp("prepared") / "out")


def records(folder):
    for shard in check_manifest(folder).shards:
        yield from read_records(folder / shard.file)


def message(capsys, *argv):
    """Exit code and the one line of a command that fails."""
    code = cli.main([str(arg) for arg in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mre ")]
    assert len(lines) == 1
    return code, lines[0]


def test_every_example_is_kept_in_order_with_its_rewards_and_its_bytes(toy, prepared):
    source = open_source("instruct_pix2pix", toy / "triplets")
    wanted = list(read_triplets(join(source, read_rewards(toy / "RewardEdit.json"))))
    found = [decode_triplet(record)[0] for record in records(prepared)]
    assert found == wanted
    assert len(found) == EXAMPLES
    assert all(triplet.scores is not None for triplet in found)


def test_the_folder_holds_the_set_and_nothing_else(prepared):
    manifest = check_manifest(prepared)
    assert len(manifest.shards) == SHARDS
    known = [path(prepared, manifest).name for path in (index_path, lengths_path)]
    assert sorted(content(prepared)) == sorted(
        ["dataset_info.json", "features.json", "manifest.json", *known]
        + [f"toy-train.tfrecord-{index:05d}-of-{SHARDS:05d}" for index in range(SHARDS)]
    )
    assert manifest.settings["reward_key"] == "folder"
    assert manifest.settings["none_for_top"] is True


def test_the_same_input_gives_the_same_bytes_wherever_it_lies(toy, prepared, tmp_path):
    shutil.copytree(toy, tmp_path / "elsewhere")
    again = prepare_toy(tmp_path / "elsewhere", tmp_path / "out")
    assert content(again) == content(prepared)


class Stop(BaseException):
    """What a kill looks like from inside."""


def test_stopped_at_any_write_and_started_again_it_gives_the_same_bytes(
    toy, prepared, tmp_path, monkeypatch
):
    sync, wanted, stops = files._sync, content(prepared), 0
    while True:
        calls = 0

        def stop(file, at=stops):
            nonlocal calls
            calls += 1
            if calls > at:
                raise Stop
            sync(file)

        out = tmp_path / f"out{stops}"
        with monkeypatch.context() as patch:
            patch.setattr(files, "_sync", stop)
            try:
                prepare_toy(toy, out)
                break
            except Stop:
                (out / ".toy-train.tfrecord-00000-of-00003.0000.tmp").write_bytes(b"torn")
        prepare_toy(toy, out)
        assert content(out) == wanted, stops
        stops += 1
    # The claim, the shards and their notes, lengths, index, two files of metadata, the manifest.
    assert stops == 1 + 2 * SHARDS + 2 + 2 + 1


def test_finished_shards_are_not_written_again_but_damaged_ones_are(toy, prepared, tmp_path):
    out = tmp_path / "out"
    assert _stop_before_manifest(toy, out)
    kept, damaged = (out / f"toy-train.tfrecord-{n:05d}-of-{SHARDS:05d}" for n in (0, 1))
    old = kept.stat().st_mtime_ns
    data = damaged.read_bytes()
    damaged.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    prepare_toy(toy, out)
    assert kept.stat().st_mtime_ns == old
    assert content(out) == content(prepared)


def _stop_before_manifest(toy, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mre_jax.data.records.manifest.write_manifest", _raise_stop)
        with pytest.raises(Stop):
            prepare_toy(toy, out)
    return (out / "prepare.json").exists()


def _raise_stop(*_):
    raise Stop


def test_a_finished_set_is_left_alone(toy, prepared):
    def changed() -> dict[Path, int]:
        """When each file was last written, but for the lock, which every run takes."""
        return {path: path.stat().st_mtime_ns for path in prepared.glob("[!.]*")}

    before = changed()
    prepare_toy(toy, prepared)
    assert changed() == before


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--max-examples", "23"], "max_examples"),
        (["--no-none-for-top"], "none_for_top"),
        (["--option", "seed=1"], "options.seed"),
        (["--shard-mb", "1"], "shard_bytes"),
    ],
)
def test_other_settings_are_refused_by_name(toy, tmp_path, prepared, capsys, options, key):
    for out in (prepared, tmp_path / "half"):
        if out != prepared:
            _stop_before_manifest(toy, out)
        code, line = message(capsys, *arguments(toy, out, *options))
        assert code == 78
        assert f"was begun with other settings: {key} was " in line


def test_other_input_is_refused(toy, prepared, tmp_path, capsys):
    other = shutil.copytree(toy, tmp_path / "toy")
    prompt = other / "triplets" / "0000003" / "prompt.json"
    prompt.write_text(json.dumps(json.loads(prompt.read_text()) | {"edit": "another"}))
    code, line = message(capsys, *arguments(other, prepared))
    assert (code, "was begun with other settings: sample was " in line) == (78, True)


def test_part_of_a_set_and_options_of_its_reader(toy, tmp_path):
    parts = []
    for index in range(2):
        out = tmp_path / f"part{index}"
        options = ("--max-examples", "11", "--shard", f"{index}/2", "--option", "split=train")
        prepare_toy(toy, out, *options, "--split", "val", "--no-validate")
        parts += [decode_triplet(record)[0].id for record in records(out)]
        assert check_manifest(out).split == "val"
    assert parts == [f"{n:07d}" for n in range(11)]


def test_a_set_without_rewards(toy, tmp_path):
    out = tmp_path / "out"
    argv = ["prepare", "instruct_pix2pix", str(toy / "triplets"), "--out", str(out)]
    assert cli.main(argv) == 0
    triplet, _ = decode_triplet(next(iter(records(out))))
    assert triplet.scores is None and triplet.texts is None
    assert check_manifest(out).settings["rewards"] is None


def test_options_are_read_as_the_reader_wants_them():
    assert parse_options("instruct_pix2pix", ["split=val", "seed=3"]) == {"split": "val", "seed": 3}
    assert parse_options("hq_edit", ["inverse=true"]) == {"inverse": True}
    assert parse_options("table", ['columns={"id": "key"}', "name=7"]) == {
        "columns": {"id": "key"},
        "name": "7",
    }
    for source, text in (
        ("hq_edit", "inverse=yes"),
        ("instruct_pix2pix", "seed=x"),
        ("table", "columns=[1]"),
        ("table", "columns"),
    ):
        with pytest.raises(ConfigError, match=f"--option .*{text[:5]}"):
            parse_options(source, [text])


def test_ids_that_stand_twice_are_refused_even_across_a_stop(tmp_path, capsys):
    rows = tmp_path / "rows.jsonl"
    (tmp_path / "a.png").write_bytes(picture())
    row = {"original": "a.png", "edited": "a.png", "instruction": "none"}
    rows.write_text("".join(json.dumps(row | {"id": name}) + "\n" for name in "abcb"))
    argv = ["prepare", "table", rows, "--out", tmp_path / "out", "--min-shards", "4"]
    for _ in range(2):
        code, line = message(capsys, *argv)
        assert code == 65
        assert "rows.jsonl: id 'b' stands in the set twice, as example 1 and 3" in line


def test_what_is_not_ours_is_left_alone(toy, tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    code, line = message(capsys, *arguments(toy, tmp_path))
    assert (code, "holds 'thesis.tex' and no prepared set" in line) == (78, True)
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == ["thesis.tex"]


def test_two_cannot_fill_one_folder(toy, tmp_path, capsys):
    with filelock.FileLock(tmp_path / ".prepare.lock"):
        code, line = message(capsys, *arguments(toy, tmp_path))
    assert (code, "another process is filling it" in line) == (75, True)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["prepare", "nothing", "x", "--out", "y"], 78, "source 'nothing'"),
        (["prepare", "folder", "/no/such", "--out", "y"], 65, "/no/such"),
        (["prepare", "hive", "x", "--out", "y", "--option", "splt=a"], 78, "no option 'splt'"),
    ],
)
def test_wrong_calls_are_one_line(capsys, argv, code, words):
    found, line = message(capsys, *argv)
    assert (found, words in line) == (code, True)


def test_tensorflow_datasets_opens_the_folder(prepared):
    info = tfds.builder_from_directory(str(prepared)).info
    assert (info.name, str(info.version), info.file_format.value) == ("toy", "1.0.0", "tfrecord")
    assert sorted(info.features) == sorted(NAMES)
    split = info.splits["train"]
    shards = check_manifest(prepared).shards
    assert split.shard_lengths == [shard.count for shard in shards]
    assert [path.name for path in split.filepaths] == [shard.file for shard in shards]


@pytest.mark.slow
def test_tensorflow_reads_the_folder(prepared):
    pytest.importorskip("tensorflow")
    code = f"""
import json, sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(prepared)!r})
assert "tensorflow" not in sys.modules
read = tfds.ReadConfig(interleave_cycle_length=1)
rows = list(tfds.as_numpy(builder.as_dataset(split="train", read_config=read)))
decoders = {{"original": tfds.decode.SkipDecoding()}}
raw = next(iter(tfds.as_numpy(
    builder.as_dataset(split="train", read_config=read, decoders=decoders))))
print(json.dumps({{
    "name": builder.info.name, "count": builder.info.splits["train"].num_examples,
    "ids": [row["id"].decode() for row in rows],
    "shape": rows[0]["edited"].shape, "scores": rows[0]["scores"].tolist(),
    "texts": [t.decode() for t in rows[0]["texts"]], "raw": raw["original"].hex(),
}}))
"""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    ).stdout
    found = json.loads(output.splitlines()[-1])
    triplets = [decode_triplet(record)[0] for record in records(prepared)]
    assert (found["name"], found["count"]) == ("toy", EXAMPLES)
    assert found["ids"] == [triplet.id for triplet in triplets]
    assert found["shape"] == [32, 32, 3]
    assert found["scores"] == list(triplets[0].scores)
    assert found["texts"] == list(triplets[0].texts)
    assert bytes.fromhex(found["raw"]) == triplets[0].original


def test_tensorflow_is_not_imported(toy, tmp_path):
    code = (
        "import sys; from mre_jax import cli; "
        f"assert cli.main({arguments(toy, tmp_path / 'out')!r}) == 0; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_several_processes_give_the_same_bytes(toy, prepared, tmp_path, capsys):
    assert content(prepare_toy(toy, tmp_path / "out", "--workers", "2")) == content(prepared)
    code, line = message(capsys, *arguments(toy, tmp_path / "x", "--workers", "0"))
    assert (code, "--workers 0" in line) == (78, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the library
def test_beam_gives_the_same_bytes(toy, prepared, tmp_path):
    pytest.importorskip("apache_beam")
    out = prepare_toy(toy, tmp_path / "out", "--beam=--runner=DirectRunner")
    assert content(out) == content(prepared)


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_it_gives_the_same_bytes(tmp_path):
    """Ten shards of 20 examples at 4 ms each, killed from the first write on."""
    toy = write_toy(tmp_path / "toy", examples=200)
    options = ("--min-shards", "10")
    wanted = content(prepare_toy(toy, tmp_path / "wanted", *options))
    slowly = (
        "import sys, time; from mre_jax import cli; from mre_jax.data.triplets import Triplet\n"
        "images = Triplet.images\n"
        "Triplet.images = lambda self: (time.sleep(0.004), images(self))[1]\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    generator = random.Random(0)  # noqa: S311
    kills = 0
    for number in range(4):
        argv = arguments(toy, tmp_path / f"out{number}", *options)
        for _ in range(60):
            with subprocess.Popen(
                [sys.executable, "-u", "-c", slowly, *argv],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                assert process.stdout.readline().startswith(b"joined")  # the work begins
                try:
                    _, errors = process.communicate(timeout=generator.uniform(0.1, 1.6))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
                    continue
            assert process.returncode == 0, errors.decode()
            break
        assert content(tmp_path / f"out{number}") == wanted
    assert kills >= 4
    print(f"{kills} kills")
