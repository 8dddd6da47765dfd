"""A run that was killed goes on as if it had not been; on other devices it is the same run."""

import json
import shutil

import numpy as np
import pytest

from tests.training.figures import Figures
from tests.training.states import same_bits
from tests.training.train_files import (
    LAST,
    MIDDLE,
    Process,
    last_step,
    losses,
    saved_state,
    start_two,
    wait_for_step,
)

pytestmark = pytest.mark.slow


def resumed_at_middle(whole, folder):
    """A copy of a run as it was when it had just saved its middle step."""
    run = folder / "run"
    shutil.copytree(whole, run)
    for step in (run / "checkpoints").iterdir():
        if step.name != str(MIDDLE):
            shutil.rmtree(step)
    return run


def shown(process):
    """The fingerprints of the state that a process with the fault "show" began with."""
    line = next(x for x in process.output().splitlines() if x.startswith('{"fingerprints"'))
    return json.loads(line)["fingerprints"]


def test_r1_a_killed_run_ends_in_the_bits_of_one_that_was_not(long_config, whole, tmp_path):
    figures = Figures("R1")
    run = tmp_path / "run"
    process = Process(long_config, run)
    wait_for_step(run, 11, [process])
    process.kill()
    assert last_step(run) < LAST
    process = Process(long_config, run)
    assert process.wait() == 0, process.output()
    assert same_bits(saved_state(run, LAST), saved_state(whole, LAST))
    assert losses(run) == losses(whole)
    figures.report(f"{LAST} steps = 11 + kill -9 + the rest: final state and every loss bit-equal")


def test_r2_other_devices_go_on_with_the_same_state(long_config, whole, tmp_path):
    """Every restored bit, the same data and noise; losses but for the order of sums."""
    figures = Figures("R2")
    expected = np.array(losses(whole))
    prints, apart = [], []
    for name in ("1 device", "2 devices", "8 devices", "2 processes"):
        run = resumed_at_middle(whole, tmp_path / name)
        if name == "2 processes":
            processes = start_two(long_config, run, faults=("show", "show"))
        else:
            processes = [Process(long_config, run, fault="show", devices=int(name[0]))]
        for process in processes:
            assert process.wait() == 0, process.output()
            prints.append(shown(process))
        found = np.array(losses(run))
        assert len(found) == LAST
        apart.append(float(np.abs(found / expected - 1).max()))
        if name == "1 device":
            assert same_bits(saved_state(run, LAST), saved_state(whole, LAST))
    assert all(each == prints[0] for each in prints)
    assert max(apart) <= 1e-6
    figures.report(
        f"1 -> 1, 2, 8 devices and 2 processes: restored fingerprints equal {len(prints)}/"
        f"{len(prints)}; losses of {LAST - MIDDLE} later steps within {max(apart):.1e}"
    )
