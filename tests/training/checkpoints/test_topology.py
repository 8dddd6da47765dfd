"""A checkpoint is restored onto any number of devices and processes, with the same bits."""

import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import pytest

from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.checkpoints.fingerprint import fingerprints
from tests.training.figures import Figures
from tests.training.states import abstract, make_mesh, make_state, same_bits, shardings

MESHES = [(8, 1), (4, 1), (1, 1), (8, 2)]


def test_r2_other_device_counts_restore_the_same_bits(tmp_path):
    """From each mesh onto the next, and from the last back onto the first."""
    figures = Figures("R2")
    expected = fingerprints(make_state(3, make_mesh(8)))
    state = make_state(3, make_mesh(8))
    for step, (devices, fsdp) in enumerate([*MESHES[1:], MESHES[0]]):
        checkpoints = Checkpoints(tmp_path, every=1, keep=1)
        checkpoints.save(step, state, {})
        checkpoints.close()
        mesh = make_mesh(devices, fsdp)
        restored = checkpoints.restore_newest(abstract(make_state(0, mesh), mesh))
        assert restored.step == step
        state = restored.state
        placed = jax.tree.map(lambda x: x.sharding, state)
        assert placed == shardings(state, mesh)
        assert fingerprints(state) == expected
        assert same_bits(state, make_state(3, make_mesh(8)))
    count = len(MESHES)
    figures.report(f"8 -> 4 -> 1 -> 4x2 -> 8 devices: fingerprints equal {count}/{count}")


@pytest.mark.slow
def test_r2_two_processes_restore_agree_on_damage_and_save(tmp_path):
    """One process saves; two skip the damaged step together and save; one restores theirs."""
    figures = Figures("R2")
    mesh = make_mesh(8)
    target = abstract(make_state(0, mesh), mesh)
    checkpoints = Checkpoints(tmp_path, every=1, keep=3)
    for step in (1, 2):
        checkpoints.save(step, make_state(step, mesh), {})
    checkpoints.close()
    shutil.rmtree(tmp_path / "2" / "state")
    results = two_processes("restore_and_save", tmp_path)
    expected = fingerprints(make_state(1, mesh))
    for code, lines in results:
        assert code == 0
        assert lines[0]["step"] == 1
        assert lines[0]["fingerprints"] == expected
        assert lines[0]["skipped"][0].startswith("step 2: ")
        assert lines[1] == {"committed": [1, 2]}
    restored = checkpoints.restore_newest(target)
    assert (restored.step, restored.skipped) == (2, ())
    assert same_bits(restored.state, make_state(12, mesh))
    figures.report(
        "1 process -> 2 processes -> 1 process: fingerprints equal 3/3, same step chosen"
    )


@pytest.mark.slow
def test_r11_drift_in_one_of_two_processes_stops_both(tmp_path):
    figures = Figures("R11")
    for code, lines in two_processes("drift", tmp_path):
        assert code == 65
        assert "the copies of params/conv_in.bias differ" in lines[-1]["error"]
    figures.report("drift of one ulp in one of 2 processes: detected 2/2")


def two_processes(task, folder):
    """Runs a task of `two_process_worker`; exit code and JSON lines of each process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.two_process_worker", task, str(folder)],
            env=os.environ
            | {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(process),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for process in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    # The collectives library prints to the standard output, too.
    lines = [[json.loads(x) for x in out.splitlines() if x.startswith("{")] for out in outputs]
    return list(zip([process.returncode for process in processes], lines, strict=True))
