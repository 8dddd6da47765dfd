"""Saving, restoring and keeping checkpoints; refusals; failed saves."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from orbax.checkpoint._src.path import atomicity

from mre_jax.errors import ConfigError, DataError
from mre_jax.training.checkpoints import folder as checkpoint_folder
from mre_jax.training.checkpoints.checkpoint import Checkpoints, SaveError
from mre_jax.training.checkpoints.reading import restore_params
from tests.training.figures import Figures
from tests.training.states import abstract, make_mesh, make_state, same_bits

META = {"config": {"optimizer": {"learning_rate": 5e-5}}, "data": "d1", "init_from": "w1"}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(8)


@pytest.fixture(params=[False, True], ids=["rename", "commit_file"])
def open_folder(request, tmp_path):
    """Opens the same folder again, as a run that starts anew does."""

    def make(**settings):
        settings = {"every": 1, "keep": 3, "commit_file": request.param, **settings}
        return Checkpoints(tmp_path / "checkpoints", **settings)

    return make


def save_all(checkpoints, mesh, steps):
    for step in steps:
        assert checkpoints.save(step, make_state(step, mesh), META)
    checkpoints.close()


def test_the_newest_is_restored_with_every_bit_and_what_was_saved_along(open_folder, mesh):
    save_all(open_folder(), mesh, [1, 2])
    restored = open_folder().restore_newest(abstract(make_state(0, mesh), mesh))
    assert (restored.step, restored.meta, restored.skipped) == (2, META, ())
    assert same_bits(restored.state, make_state(2, mesh))
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state(2, mesh))


def test_an_empty_folder_is_a_fresh_start(open_folder, mesh):
    assert open_folder().restore_newest(abstract(make_state(0, mesh), mesh)) is None


def test_a_state_may_be_donated_as_soon_as_save_returns(open_folder, mesh):
    """Training goes on at once, in the same memory."""
    checkpoints = open_folder()
    state = make_state(5, mesh)
    checkpoints.save(5, state, META)
    state.pop("key")
    double = jax.jit(lambda s: jax.tree.map(lambda x: x + x, s), donate_argnums=0)
    jax.block_until_ready(double(state))
    checkpoints.close()
    restored = open_folder().restore_newest(abstract(make_state(0, mesh), mesh))
    assert same_bits(restored.state, make_state(5, mesh))


def test_a_step_is_reported_only_when_it_is_written(open_folder, mesh):
    checkpoints = open_folder()
    checkpoints.save(1, make_state(1, mesh), META)
    checkpoints.save(2, make_state(2, mesh), META)
    assert checkpoints.committed()[0] == 1
    assert set(checkpoints.committed()) <= {1, 2}
    checkpoints.close()
    assert checkpoints.committed() == [1, 2]


def test_a_step_that_is_there_is_not_saved_again(open_folder, mesh):
    save_all(open_folder(), mesh, [1])
    checkpoints = open_folder()
    assert not checkpoints.save(1, make_state(7, mesh), META)
    assert checkpoints.save(2, make_state(2, mesh), META)
    checkpoints.close()
    assert checkpoints.committed() == [1, 2]


def test_due():
    checkpoints = Checkpoints("unused", every=10, keep=1, keep_every=25, pinned=[3])
    assert [step for step in range(1, 51) if checkpoints.due(step)] == [3, 10, 20, 25, 30, 40, 50]


def test_r16_the_newest_every_so_many_and_pinned_steps_are_kept(open_folder, mesh):
    checkpoints = open_folder(keep=2, keep_every=4, pinned=[3])
    save_all(checkpoints, mesh, range(1, 12))
    assert checkpoints.committed() == [3, 4, 8, 10, 11]


@pytest.mark.parametrize("deleted", [1, 4, 8, 12])
def test_r16_a_step_that_a_kill_left_half_deleted_hides_nothing(open_folder, mesh, deleted):
    save_all(open_folder(), mesh, [1, 2, 3])
    checkpoints = open_folder(keep=2)
    half = Path(checkpoints._folder.path / "1")
    files = sorted(path for path in half.glob("**/*") if path.is_file())
    for path in files[:deleted]:
        path.unlink()
    restored = checkpoints.restore_newest(abstract(make_state(0, mesh), mesh))
    assert (restored.step, restored.skipped) == (3, ())
    save_all(checkpoints, mesh, [4])
    assert checkpoints.committed() == [3, 4]


class TestR15:
    """A state of another shape, type or set of leaves is another model, not damage."""

    @pytest.fixture
    def saved(self, open_folder, mesh):
        save_all(open_folder(), mesh, [1, 2])
        return open_folder()

    def refused(self, checkpoints, mesh, change, match):
        target = abstract(make_state(0, mesh), mesh)
        change(target)
        with pytest.raises(ConfigError, match=match):
            checkpoints.restore_newest(target)
        assert checkpoints.committed() == [1, 2]

    def test_another_dtype(self, saved, mesh):
        def change(target):
            name = "conv_in.bias"
            leaf = target["params"][name]
            target["params"][name] = jax.ShapeDtypeStruct(
                leaf.shape, jnp.bfloat16, sharding=leaf.sharding
            )

        self.refused(
            saved, mesh, change, r"/2: params/conv_in.bias is float32\[8\], but bfloat16\[8\]"
        )

    def test_another_shape(self, saved, mesh):
        def change(target):
            target["params"] = abstract(make_state(0, mesh, width=16), mesh)["params"]

        self.refused(saved, mesh, change, r"is float32\[8\], but float32\[16\]")

    def test_a_leaf_that_was_not_saved(self, saved, mesh):
        def change(target):
            target["ema"]["new.bias"] = target["ema"]["conv_in.bias"]

        self.refused(saved, mesh, change, "has no ema/new.bias")

    def test_a_leaf_that_is_not_wanted(self, saved, mesh):
        self.refused(saved, mesh, lambda t: t["ema"].clear(), "has ema/conv_in.bias, which")


class TestSpace:
    def test_too_little_disk_is_an_error_before_the_first_step(self, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)._replace(free=3 << 30)
        monkeypatch.setattr(checkpoint_folder.shutil, "disk_usage", lambda path: usage)
        state = {"params": jax.ShapeDtypeStruct((1 << 28,), jnp.float32)}
        checkpoints = Checkpoints(tmp_path / "run" / "checkpoints", every=1, keep=3)
        with pytest.raises(ConfigError, match="4 checkpoints of 1 GiB each need 4 GiB, and 3 GiB"):
            checkpoints.check_space(state)
        Checkpoints(tmp_path, every=1, keep=2).check_space(state)

    def test_checkpoints_that_are_there_count(self, tmp_path, mesh, monkeypatch):
        state = make_state(0, mesh, width=4096)
        save_all(Checkpoints(tmp_path, every=1, keep=2), mesh, [])
        checkpoints = Checkpoints(tmp_path, every=1, keep=2)
        for step in (1, 2):
            checkpoints.save(step, state, META)
        checkpoints.close()
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(
            checkpoint_folder.shutil, "disk_usage", lambda path: usage._replace(free=2 * size)
        )
        Checkpoints(tmp_path, every=1, keep=2).check_space(state)
        with pytest.raises(ConfigError, match="make room"):
            Checkpoints(tmp_path, every=1, keep=4).check_space(state)


class TestR5:
    """A save that fails ends the run, at the latest with the next save."""

    @pytest.fixture
    def broken(self, monkeypatch):
        """Saves from now on fail in the background, with this error."""

        def install(error):
            async def finalize(self):
                raise error

            for kind in (
                atomicity.AtomicRenameTemporaryPath,
                atomicity.CommitFileTemporaryPath,
            ):
                monkeypatch.setattr(kind, "finalize", finalize)

        return install

    @pytest.mark.parametrize("end", ["save", "close"])
    def test_at_the_next_save_or_the_end(self, open_folder, mesh, broken, end):
        save_all(open_folder(), mesh, [1])
        checkpoints = open_folder()
        broken(OSError(errno.EIO, "Input/output error"))
        checkpoints.save(2, make_state(2, mesh), META)
        match = "step 2 could not be saved .*Input/output error.*; step 1 is the newest checkpoint"
        with pytest.raises(SaveError, match=match) as raised:
            if end == "save":
                checkpoints.save(3, make_state(3, mesh), META)
            else:
                checkpoints.close()
        assert raised.value.exit_code == 70
        with pytest.raises(SaveError, match="step 2 could not be saved"):
            checkpoints.close()  # Whoever overheard it hears it again.
        assert checkpoints.committed() == [1]
        assert open_folder().restore_newest(abstract(make_state(0, mesh), mesh)).step == 1

    def test_a_full_disk_is_not_worth_another_try(self, open_folder, mesh, broken):
        checkpoints = open_folder()
        broken(OSError(errno.ENOSPC, "No space left on device"))
        checkpoints.save(2, make_state(2, mesh), META)
        with pytest.raises(DataError, match=r"No space left.*there is no checkpoint"):
            checkpoints.close()

    def test_an_unfinished_folder_is_not_taken_for_a_checkpoint(self, tmp_path, mesh):
        (tmp_path / "1").mkdir()
        checkpoints = Checkpoints(tmp_path, every=1, keep=1)
        with pytest.raises(SaveError, match=r"step 1 could not be saved .*in the way"):
            checkpoints.save(1, make_state(1, mesh), META)

    def test_a_folder_that_cannot_be_made(self, tmp_path, mesh):
        (tmp_path / "file").write_text("")
        checkpoints = Checkpoints(tmp_path / "file" / "checkpoints", every=1, keep=1)
        with pytest.raises(SaveError, match="step 1 could not be saved"):
            checkpoints.save(1, make_state(1, mesh), META)


class TestRestoreParams:
    @pytest.mark.parametrize("which", ["params", "ema"])
    def test_on_the_host(self, open_folder, mesh, which):
        save_all(open_folder(), mesh, [1, 2])
        folder = open_folder()._folder.path
        restored = restore_params(folder, which=which)
        assert restored.step == 2
        assert all(isinstance(x, np.ndarray) for x in restored.state.values())
        assert same_bits(restored.state, make_state(2, mesh)[which])
        assert same_bits(restore_params(folder, 1, which).state, make_state(1, mesh)[which])

    def test_on_devices(self, open_folder, mesh):
        save_all(open_folder(), mesh, [1])
        sharding = NamedSharding(make_mesh(2), PartitionSpec())
        restored = restore_params(open_folder()._folder.path, sharding=sharding)
        assert all(x.sharding == sharding for x in restored.state.values())
        assert same_bits(restored.state, make_state(1, mesh)["params"])

    def test_of_a_run_that_is_saving_or_was_killed_in_it(self, open_folder, mesh):
        """Export never cleans up: what looks left behind may be a save in progress."""
        save_all(open_folder(), mesh, [1])
        path = open_folder()._folder.path
        for name in ("2", "2.orbax-checkpoint-tmp"):
            (path / name / "state").mkdir(parents=True)
        assert restore_params(path).step == 1
        assert (path / "2").exists()
        assert (path / "2.orbax-checkpoint-tmp").exists()

    def test_what_is_not_there_is_named(self, tmp_path, mesh):
        with pytest.raises(ConfigError, match="has no checkpoint"):
            restore_params(tmp_path)
        checkpoints = Checkpoints(tmp_path, every=1, keep=1)
        checkpoints.save(1, {**make_state(1, mesh), "ema": {}}, META)
        checkpoints.close()
        with pytest.raises(ConfigError, match=r"has no step 7; it has \[1\]"):
            restore_params(tmp_path, 7)
        with pytest.raises(ConfigError, match="1 has no ema; the run kept none"):
            restore_params(tmp_path, which="ema")


def test_what_killed_saves_left_is_removed(open_folder, mesh):
    save_all(open_folder(), mesh, [1])
    checkpoints = open_folder()
    path = checkpoints._folder.path
    left = path / ("2" if checkpoints._folder.commit_file else "2.orbax-checkpoint-tmp")
    (left / "state").mkdir(parents=True)
    aside = path / "5.bad"
    aside.mkdir()
    assert checkpoints.restore_newest(abstract(make_state(0, mesh), mesh)).step == 1
    save_all(checkpoints, mesh, [3])
    assert not left.exists()
    assert aside.exists()
    assert checkpoints.committed() == [1, 3]


def test_nothing_is_ever_preempted_alone(tmp_path):
    assert not Checkpoints(tmp_path, every=1, keep=1).reached_preemption(1)


def test_checkpoints_are_plain_orbax(tmp_path, mesh):
    """Other programs can read them without this one."""
    save_all(Checkpoints(tmp_path, every=1, keep=1), mesh, [1])
    handler = ocp.StandardCheckpointHandler()
    target = abstract(make_state(0, mesh), mesh)
    state = handler.restore(epath.Path(tmp_path) / "1/state", args=ocp.args.StandardRestore(target))
    assert same_bits(state, make_state(1, mesh))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["rename", "commit_file"])
def test_r5_a_process_that_cannot_write_does_not_end_well(tmp_path, mode):
    figures = Figures("R5")
    worker = [sys.executable, "-m", "tests.training.failing_saves", str(tmp_path), mode]
    done = subprocess.run(worker, capture_output=True, text=True, env=dict(os.environ), timeout=120)
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    assert done.returncode == 70, done.stderr
    assert "could not be saved" in done.stderr
    begun = [line["begun"] for line in lines if "begun" in line]
    assert begun == [1, 2]
    assert lines[-1] == {"committed": [1]}
    assert "Traceback" not in done.stderr.splitlines()[-1]
    figures.report(f"{mode}: failed save noticed 1 save later, exit 70, silent successes 0/1")
