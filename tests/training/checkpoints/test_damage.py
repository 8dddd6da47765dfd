"""Damaged checkpoints are named and skipped; killed saves and deletions leave a sound one."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.checkpoints.reading import restore_params
from tests.training.figures import Figures
from tests.training.states import abstract, make_mesh, make_state, same_bits

MARKER = "commit_success.txt"


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(8)


@pytest.fixture(scope="module", params=["rename", "commit_file"])
def original(request, tmp_path_factory, mesh):
    """Two checkpoints, kept whole, and the mode they were written in."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoints = Checkpoints(folder, every=1, keep=3, commit_file=request.param == "commit_file")
    for step in (1, 2):
        checkpoints.save(step, make_state(step, mesh, width=256), {"data": "d"})
    checkpoints.close()
    return folder, request.param == "commit_file"


@pytest.fixture
def copy(original, tmp_path):
    """A fresh copy of them, to be damaged: its folder, and a function that opens it."""

    def make(name="copy"):
        folder = tmp_path / name
        shutil.copytree(original[0], folder)
        return folder, Checkpoints(folder, every=1, keep=3, commit_file=original[1])

    return make


@pytest.fixture(scope="module")
def target(mesh):
    return abstract(make_state(0, mesh, width=256), mesh)


def files_of(step: Path) -> list[Path]:
    return sorted(path for path in step.rglob("*") if path.is_file())


def largest(step: Path) -> Path:
    return max(files_of(step), key=lambda path: path.stat().st_size)


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    "one flipped bit of array data": lambda step: flip(
        largest(step), largest(step).stat().st_size // 2, 3
    ),
    "array data cut short": lambda step: os.truncate(largest(step), 1000),
    "array data emptied": lambda step: os.truncate(largest(step), 0),
    "array data deleted": lambda step: largest(step).unlink(),
    "index of the arrays deleted": lambda step: (step / "state/manifest.ocdbt").unlink(),
    "all arrays deleted": lambda step: shutil.rmtree(step / "state"),
    "description of the arrays deleted": lambda step: (step / "state/_METADATA").unlink(),
    "record deleted": lambda step: shutil.rmtree(step / "meta"),
    "record emptied": lambda step: os.truncate(step / "meta/metadata", 0),
    "record cut short": lambda step: os.truncate(step / "meta/metadata", 500),
    "record changed": lambda step: (step / "meta/metadata").write_text(
        (step / "meta/metadata").read_text().replace("float32[3", "float32[4", 1)
    ),
    "commit marker deleted": lambda step: (step / MARKER).unlink(),
    "everything deleted but the folder": empty,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_r4_a_damaged_newest_checkpoint_is_named_and_skipped(copy, damage, target, mesh):
    figures = Figures("R4")
    folder, checkpoints = copy()
    DAMAGE[damage](folder / "2")
    # In a bucket, a step without its marker was never there.
    uncommitted = checkpoints._folder.commit_file and not (folder / "2" / MARKER).exists()
    restored = checkpoints.restore_newest(target)
    assert restored.step == 1
    assert same_bits(restored.state, make_state(1, mesh, width=256))
    if not uncommitted:
        assert len(restored.skipped) == 1
        assert restored.skipped[0].startswith("step 2: ")
        assert (folder / "2.bad").is_dir()
    checkpoints.save(2, make_state(12, mesh, width=256), {})
    checkpoints.close()
    restored = checkpoints.restore_newest(target)
    assert (restored.step, restored.skipped) == (2, ())
    assert same_bits(restored.state, make_state(12, mesh, width=256))
    figures.report("kinds of damage, on a disk and in a bucket: detected", of=2 * len(DAMAGE))


def test_damage_found_again_in_the_same_step_is_kept_too(copy, target, mesh):
    folder, checkpoints = copy()
    for expected in (["2.bad"], ["2.bad", "2.bad1"], ["2.bad", "2.bad1", "2.bad2"]):
        largest(folder / "2").unlink()
        assert checkpoints.restore_newest(target).step == 1
        assert checkpoints._folder.damaged() == expected
        checkpoints.save(2, make_state(2, mesh, width=256), {})
        checkpoints.close()


def test_no_sound_checkpoint_is_no_fresh_start(copy, target):
    folder, checkpoints = copy()
    for step in ("1", "2"):
        largest(folder / step).unlink()
    for _ in range(2):  # Nor at a second try.
        with pytest.raises(DataError, match=r"no valid checkpoint \(step 2: .*; step 1: .*\)"):
            checkpoints.restore_newest(target)
        assert (folder / "1").is_dir()
        assert (folder / "2").is_dir()


def test_damaged_ones_alone_are_no_fresh_start(copy, target):
    folder, checkpoints = copy()
    (folder / "2").rename(folder / "2.bad")
    shutil.rmtree(folder / "1")
    with pytest.raises(DataError, match=r"only 2.bad.*not starting from scratch"):
        checkpoints.restore_newest(target)


def test_export_skips_a_damaged_step_and_changes_nothing(copy):
    folder, _ = copy()
    for path in files_of(folder / "2/state"):
        if path.stat().st_size > 10_000:
            flip(path, path.stat().st_size // 2, 0)
    restored = restore_params(folder)
    assert restored.step == 1
    assert restored.skipped[0].startswith("step 2: ")
    assert (folder / "2").is_dir()
    with pytest.raises(DataError, match="step 2: "):
        restore_params(folder, 2)


def count_flips(copy, target, mesh, flips: int) -> Counter:
    """Flips single bits, most of them where most bytes are, and says what became of them."""
    rng = random.Random(0)  # noqa: S311
    found: Counter = Counter()
    truth = make_state(2, mesh, width=256)
    for trial in range(flips):
        folder, checkpoints = copy(f"flip{trial}")
        files = files_of(folder / "2")
        sizes = [path.stat().st_size if trial % 4 else 1 for path in files]
        path = rng.choices(files, sizes)[0]
        flip(path, rng.randrange(path.stat().st_size), rng.randrange(8))
        restored = checkpoints.restore_newest(target)
        if restored.step == 1:
            found["detected"] += 1
        elif same_bits(restored.state, truth):
            found["harmless"] += 1  # A time stamp, say, or the text of the marker.
        else:
            found["silent"] += 1
        shutil.rmtree(folder)
    return found


def test_r4_flipped_bits_never_get_through(copy, target, mesh):
    found = count_flips(copy, target, mesh, 6)
    assert found["silent"] == 0
    assert found["detected"] > 0


@pytest.mark.slow
def test_r4_many_flipped_bits_never_get_through(original, copy, target, mesh):
    figures = Figures("R4")
    found = count_flips(copy, target, mesh, 100)
    assert found["silent"] == 0
    mode = "commit_file" if original[1] else "rename"
    figures.report(
        f"{mode}: 100 flipped bits: detected {found['detected']}, "
        f"harmless {found['harmless']}, silent 0"
    )


class Worker:
    """A run that saves its steps one after another, in a process that can be killed."""

    def __init__(self, folder: Path, mode: str, **settings: object):
        words = [str(folder), mode, *(f"{key}={value}" for key, value in settings.items())]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.steady_saves", *words],
            stdout=subprocess.PIPE,
            text=True,
        )

    def lines(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                yield json.loads(line)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rename", "commit_file"])
def test_r3_kills_in_a_save_leave_the_newest_step_sound(tmp_path, mode):
    figures = Figures("R3")
    rng = np.random.default_rng(0)
    mesh = make_mesh(8)
    target = abstract(make_state(0, mesh, width=4096), mesh)
    rounds, mid_save, newest = 6, 0, 0
    for _ in range(rounds):
        worker = Worker(tmp_path, mode, width=4096)
        lines = worker.lines()
        for line in lines:
            if line.get("begun", 0) >= newest + 2:
                break
        assert line["begun"] == newest + 2, "a killed save keeps the next run from saving"
        time.sleep(rng.uniform(0, 0.15))
        worker.kill()
        checkpoints = Checkpoints(tmp_path, every=1, keep=2, commit_file=mode == "commit_file")
        names = {path.name for path in tmp_path.iterdir()}
        mid_save += len(names - {str(step) for step in checkpoints.committed()}) > 0
        restored = checkpoints.restore_newest(target)
        assert restored.skipped == ()
        assert restored.step == checkpoints.committed()[-1]
        assert restored.step >= newest + 1, "a step that was reported as saved is gone"
        assert same_bits(restored.state, make_state(restored.step, mesh, width=4096))
        newest = restored.step
    assert mid_save > 0
    figures.report(
        f"{mode}: killed {rounds}, {mid_save} in mid-save: newest intact {rounds}/{rounds}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rename", "commit_file"])
def test_r16_kills_in_a_deletion_hide_no_step(tmp_path, mode):
    figures = Figures("R16")
    mesh = make_mesh(8)
    target = abstract(make_state(0, mesh), mesh)
    kills = [1, 5, 12]
    newest = 0
    for files in kills:
        worker = Worker(tmp_path, mode, kill_at_unlink=files)
        begun = [line["begun"] for line in worker.lines() if "begun" in line]
        assert worker.process.wait() == -signal.SIGKILL
        worker.process.stdout.close()
        checkpoints = Checkpoints(tmp_path, every=1, keep=2, commit_file=mode == "commit_file")
        restored = checkpoints.restore_newest(target)
        assert restored.skipped == ()
        # None is begun if it died removing what the one before it had left half deleted.
        assert restored.step == (begun[-1] if begun else newest)
        assert restored.step > 2
        assert same_bits(restored.state, make_state(restored.step, mesh))
        newest = restored.step
    checkpoints.save(newest + 1, make_state(newest + 1, mesh), {})
    checkpoints.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(newest), str(newest + 1)]
    figures.report(
        f"{mode}: killed in a deletion {len(kills)}, newest intact {len(kills)}/{len(kills)}"
    )
