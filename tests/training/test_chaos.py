"""Random kills of a run, alone and of two processes, leave no trace in its final state."""

import time

import numpy as np
import pytest

from mre_jax.training.liveness import CRASHED
from mre_jax.training.run.directory import RunDirectory
from tests.training.figures import Figures
from tests.training.states import same_bits
from tests.training.train_files import (
    LAST,
    PATIENCE,
    Process,
    last_step,
    losses,
    saved_state,
    start_two,
    wait_for_step,
)

pytestmark = pytest.mark.slow


class Chaos:
    """Starts a run again and again, and kills one of its processes at a random moment.

    Attributes:
        readable: how often the directory explained itself after a kill.
        gone: seconds after each kill until all processes were gone.
    """

    def __init__(self, start, run, seed):
        self._start, self._run = start, run
        self._rng = np.random.default_rng(seed)
        self.readable, self.gone = 0, []

    def kill(self, kills):
        for number in range(kills):
            processes = self._start()
            if number % 4 == 3:
                self._wait_for_start(number, processes)
            else:
                step = last_step(self._run) + int(self._rng.integers(1, 6))
                assert step < LAST
                wait_for_step(self._run, step, processes)
                time.sleep(self._rng.uniform(0, 0.1))
            began = time.monotonic()
            victim = self._rng.integers(len(processes))
            processes[victim].kill()
            codes = [process.wait(PATIENCE) for process in processes]
            assert 0 not in codes, "the run ended before it was killed"
            self.gone.append(time.monotonic() - began)
            self._read(number + 1, survived=victim != 0)

    def finish(self):
        processes = self._start()
        for process in processes:
            assert process.wait() == 0, process.output()

    def _wait_for_start(self, number, processes):
        """Until the process has the directory; the kill then meets loading or compiling."""
        end = time.monotonic() + PATIENCE
        while not self._attempts() > number:
            assert not any(process.ended() for process in processes), processes[0].output()
            assert time.monotonic() < end
            time.sleep(0.05)
        time.sleep(self._rng.uniform(0, 3))

    def _attempts(self):
        directory = RunDirectory(self._run)
        return len(directory.attempts()) if directory.exists() else 0

    def _read(self, attempts, *, survived):
        """After a kill; `survived` is whether the process that writes lived on to tell of it."""
        directory = RunDirectory(self._run)
        assert directory.identity().config.steps == LAST
        assert len(directory.attempts()) == attempts
        assert {row["attempt"] for row in directory.events()} <= set(range(1, attempts + 1))
        last = directory.events()[-1]
        assert last["event"] != "stop" or (survived and last["exit_code"] == CRASHED)
        last_step(self._run)
        self.readable += 1


def test_r1_kills_of_one_process(long_config, whole, tmp_path):
    figures, directories = Figures("R1"), Figures("R19")
    run, kills = tmp_path / "run", 8
    chaos = Chaos(lambda: [Process(long_config, run)], run, seed=0)
    chaos.kill(kills)
    chaos.finish()
    assert same_bits(saved_state(run, LAST), saved_state(whole, LAST))
    assert losses(run) == losses(whole)
    figures.report(f"one process: kills survived {kills}/{kills}, final state bit-equal")
    directories.report(f"directory readable after kill -9: {chaos.readable}/{kills}")


def test_r1_kills_of_a_member_of_two_processes(long_config, whole_of_two, tmp_path):
    figures = Figures("R1")
    run, kills = tmp_path / "run", 4
    chaos = Chaos(lambda: start_two(long_config, run), run, seed=1)
    chaos.kill(kills)
    chaos.finish()
    assert same_bits(saved_state(run, LAST), saved_state(whole_of_two, LAST))
    figures.report(
        f"two processes: kills survived {kills}/{kills}, final state bit-equal; "
        f"the other was gone within {max(chaos.gone):.1f} s"
    )
    assert max(chaos.gone) < 150, "longer than the heartbeat"
