"""What else may befall a run: signals, hangs, damaged data, bad numbers, torn files."""

import shutil
import signal
import time

import numpy as np
import pytest

from mre_jax.data.batches.loader import Loader
from mre_jax.data.batches.order import positions
from mre_jax.data.records.record_source import RecordSource
from mre_jax.io.growing_file import rows_so_far
from mre_jax.training import train as train_module
from mre_jax.training.run.directory import RunDirectory, committed_step
from mre_jax.training.run.identity import Identity
from tests.training.attempts import exit_reason
from tests.training.figures import Figures
from tests.training.states import same_bits
from tests.training.tiny_run import train_config
from tests.training.train_files import (
    LAST,
    Process,
    last_step,
    saved_state,
    start_two,
    train,
    wait_for_step,
    write_config,
)


class TestR6:
    """SIGTERM to any process: all save the same step and ask to be started again."""

    def check(self, run, processes, victim):
        """Seconds from the signal to the end, and steps made in them."""
        wait_for_step(run, 7, processes)
        before, began = last_step(run), time.monotonic()
        processes[victim].signal(signal.SIGTERM)
        codes = [process.wait() for process in processes]
        seconds = time.monotonic() - began
        assert codes == [75] * len(processes), processes[0].output()
        events = RunDirectory(run).events()
        assert events[-1]["exit_code"] == 75
        saved = committed_step(events)
        assert f"saved step {saved}" in exit_reason(events)
        return seconds, saved, saved - before

    @pytest.mark.slow
    def test_one_process(self, long_config, whole, tmp_path):
        figures, run = Figures("R6"), tmp_path / "run"
        process = Process(long_config, run, fault="slow:0.2")
        seconds, saved, steps = self.check(run, [process], 0)
        assert Process(long_config, run).wait() == 0
        assert same_bits(saved_state(run, LAST), saved_state(whole, LAST))
        figures.report(
            f"one process: exit 75 after {seconds:.1f} s with step {saved} saved, {steps} steps "
            "of 0.2 s later; resumed bit-equal, steps lost 0"
        )

    @pytest.mark.slow
    def test_either_of_two(self, long_config, whole_of_two, tmp_path):
        figures, run = Figures("R6"), tmp_path / "run"
        processes = start_two(long_config, run, faults=("slow:0.2", "slow:0.2"))
        seconds, saved, steps = self.check(run, processes, 1)
        for process in start_two(long_config, run):
            assert process.wait() == 0, process.output()
        assert same_bits(saved_state(run, LAST), saved_state(whole_of_two, LAST))
        figures.report(
            f"signal to the second of two: both exit 75 after {seconds:.1f} s with step {saved}, "
            f"{steps} steps of 0.2 s later; resumed bit-equal, steps lost 0"
        )


class TestR7:
    """Whatever happens to one of two processes, both are soon gone, and it is said why."""

    WATCHDOG = 20

    @pytest.mark.slow
    @pytest.mark.parametrize("victim", [0, 1], ids=["coordinator", "other"])
    @pytest.mark.parametrize("what", ["crash", "hang", "kill"])
    def test_of_two_processes(self, long_config, tmp_path, what, victim):
        figures, run = Figures("R7"), tmp_path / "run"
        faults = ["", ""]
        if what != "kill":
            faults[victim] = f"{what}:8"
        processes = start_two(
            long_config,
            run,
            f"guard.watchdog_seconds={self.WATCHDOG}",
            faults=(faults[0], faults[1]),
        )
        wait_for_step(run, 6, processes)
        began = time.monotonic()
        if what == "kill":
            processes[victim].kill()
        ends = [None, None]
        while None in ends:
            for number, process in enumerate(processes):
                if ends[number] is None and process.ended():
                    ends[number] = time.monotonic() - began
            assert time.monotonic() - began < 150, "longer than the heartbeat"
            time.sleep(0.01)
        codes = [process.wait() for process in processes]
        assert 0 not in codes
        output = processes[victim].output()
        if what == "crash":
            assert codes[victim] == 70
            assert "RuntimeError: a bug" in output
        if what == "hang":
            # Either of them finds it first: the other waits in a step that needs both.
            assert 70 in codes
            assert any("hangs; all stacks follow" in process.output() for process in processes)
            assert any("Current thread" in process.output() for process in processes)
        name = "coordinator" if victim == 0 else "other process"
        seconds = abs(ends[0] - ends[1]) if what == "crash" else max(ends)
        limit = f" (watchdog {self.WATCHDOG} s)" if what == "hang" else ""
        figures.report(f"{what} of the {name}: both gone after {seconds:.1f} s{limit}")

    @pytest.mark.slow
    def test_a_crash_of_one_process_alone(self, long_config, tmp_path):
        process = Process(long_config, tmp_path / "run", fault="crash:2")
        assert process.wait() == 70
        assert "RuntimeError: a bug" in process.output()
        events = RunDirectory(tmp_path / "run").events()
        assert exit_reason(events) == "RuntimeError: a bug (exit code 70)"


def test_r8_a_batch_depends_on_seed_and_step_alone(shards):
    """Not on hosts, workers or restarts; and each example comes once an epoch."""
    figures = Figures("R8")
    source = RecordSource(shards)

    def loader(**settings):
        return Loader([source], batch_size=8, seed=3, **settings)

    cases = 0
    for step in (0, 1, 5, 1000):
        expected = loader().batch(step)
        for hosts in (1, 2, 4, 8):
            parts = [loader(host=host, hosts=hosts).batch(step) for host in range(hosts)]
            for name in ("scores", "key_data", "positions", "original"):
                joined = np.concatenate([getattr(part, name) for part in parts])
                np.testing.assert_array_equal(joined, getattr(expected, name))
            cases += 1
    order = loader().order
    for epoch in range(4):
        seen = np.concatenate(
            [order.locate(positions(3 * epoch + step, 8))[1] for step in range(3)]
        )
        assert sorted(seen) == list(range(len(source)))
    began = time.perf_counter()
    order.locate(positions(1_000_000, 8))
    seek = 1000 * (time.perf_counter() - began)
    figures.report(
        f"steps x hosts of 1, 2, 4, 8: equal {cases}/{cases}; every example once in 4/4 epochs; "
        f"step 1,000,000 found in {seek:.1f} ms"
    )


def _cut(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a missing shard": lambda shard, other: shard.unlink(),
    "an extra shard": lambda shard, other: shutil.copy(
        shard, shard.with_name(shard.name.replace("-00000-", "-00009-"))
    ),
    "an empty shard": lambda shard, other: shard.write_bytes(b""),
    "a shard cut in a record": lambda shard, other: _cut(shard, 0.7),
    "a shard in the place of another": lambda shard, other: shutil.copy(other, shard),
    "garbage": lambda shard, other: shard.write_bytes(b"x" * shard.stat().st_size),
    "a flipped bit in a picture": lambda shard, other: _flip(shard),
}


def test_r9_damaged_data_ends_a_run_before_its_first_step(
    editor, shards, tmp_path, capsys, monkeypatch
):
    """With the file named, and the exit code that says not to try again."""
    figures = Figures("R9")

    def compiled_step(*args):
        return lambda *args: pytest.fail("a step was made of damaged data")

    monkeypatch.setattr(train_module, "compiled_step", compiled_step)
    for number, (name, damage) in enumerate(DAMAGE.items()):
        folder = tmp_path / str(number)
        shutil.copytree(shards, folder)
        first, second, *_ = sorted(folder.glob("*tfrecord*"))
        damage(first, second)
        config = write_config(
            tmp_path / f"{number}.yaml",
            editor,
            folder,
            data={"batch_size": 24},  # The whole set is in the first batch.
        )
        assert train(config, tmp_path / f"run{number}") == 65, name
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, name
        assert str(folder) in lines[0], name
    figures.report(f"kinds of damage named before step 1, exit 65: {len(DAMAGE)}/{len(DAMAGE)}")


@pytest.mark.slow
def test_r10_numbers_that_are_not_finite(long_config, tmp_path):
    """Some are skipped, too many in a row end the run, and nothing of them is saved."""
    figures, run = Figures("R10"), tmp_path / "run"
    process = Process(long_config, run, "guard.non_finite_limit=5", fault="nan:3,4,8,9,10,11,12")
    assert process.wait() == 65
    assert "step 12: loss or gradient was not finite 5 times in a row" in process.output()
    skipped = {row["step"]: row["skipped"] for row in rows_so_far(run / "metrics.jsonl")}
    assert [step for step, count in skipped.items() if count] == [3, 4, 8, 9, 10, 11]
    events = RunDirectory(run).events()
    assert events[-1]["exit_code"] == 65
    saved = [row["step"] for row in events if row["event"] == "save_commit"]
    assert saved == [6]
    assert all(np.isfinite(x).all() for x in saved_state(run, 6)["params"].values())
    figures.report("2 bad batches skipped; 5 in a row end the run: exit 65, no such state saved")


def test_r19_a_run_directory_is_readable_cut_at_any_byte(tmp_path):
    """A kill may tear the last line of what is being written."""
    figures = Figures("R19")
    identity = Identity(train_config(), ("d",), "w")
    whole = RunDirectory(tmp_path / "whole")
    with whole.opened(identity, argv=["mre", "train"]):
        whole.event("first_step", step=1)
        for step in range(1, 6):
            whole.event("step", step=step)
    lines = (whole.path / "events.jsonl").read_bytes()
    ends = [number for number, byte in enumerate(lines) if byte == ord("\n")]
    run = RunDirectory(tmp_path / "cut")
    shutil.copytree(whole.path, run.path)
    for cut in range(len(lines)):
        (run.path / "events.jsonl").write_bytes(lines[:cut])
        events = run.events()
        assert len(events) == sum(end < cut for end in ends)
        assert exit_reason(events)
    (run.path / "events.jsonl").write_bytes(lines[: ends[2] + 20])
    with run.opened(identity, argv=["mre", "train"]):
        pass
    assert [row["event"] for row in run.events()] == [
        *("job_start", "first_step", "step"),
        *("job_start", "stop"),
    ]
    assert run.attempts()[0]["versions"]["jax"]
    figures.report(f"events cut at any of {len(lines)} bytes: readable {len(lines)}/{len(lines)}")
