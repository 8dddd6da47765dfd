"""The whole way, for real but for the cloud: two folders of this machine are a slice of two hosts.

What ssh is asked to run is run: setup of a commit, preflight over gloo, the tiny reward editor's
training from TFRecords. One worker is killed, then the slice is taken away and made again; what is
trained in the end is bit-equal to a run that nobody disturbed.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import XLA_FLAGS
from tests.tpu_scripts.conftest import STEPS
from tests.tpu_scripts.local_slice import LocalSlice
from tests.tpu_scripts.pods import GKE, ROOT, SETTINGS
from tests.tpu_scripts.restarts import action
from tests.training.figures import Figures
from tests.training.states import same_bits
from tests.training.train_files import PATIENCE, free_port, last_step, saved_state
from tpu_scripts.jobset import manifest
from tpu_scripts.settings import from_values

pytestmark = pytest.mark.slow

MRE = [sys.executable, "-m", "tests.training.faulty_train", "slow:0.1"]
"""`mre`, slow enough to be met in the middle."""
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "PYTHONPATH": str(ROOT),
    "XLA_FLAGS": " ".join([*XLA_FLAGS[1:], "--xla_force_host_platform_device_count=1"]),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": os.environ["JAX_COMPILATION_CACHE_DIR"],
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "UPLOAD_SECONDS": "1",
}


def environment_of(worker, port):
    """What makes a process one of two."""
    return {
        "TPU_WORKER_ID": str(worker),
        "JAX_PROCESS_ID": str(worker),
        "JAX_NUM_PROCESSES": "2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
    }


def wait_for(step, run, done):
    """Until the run has come so far; `done` is what the supervisor leaves when it ends."""
    end = time.monotonic() + PATIENCE
    while last_step(run) < step:
        assert not done, done[0].stderr
        assert time.monotonic() < end
        time.sleep(0.05)


def test_r18_a_slice_is_killed_and_taken_away_and_the_run_ends_in_the_same_bits(
    tmp_path, config, undisturbed
):
    figures = Figures("R18")
    run = tmp_path / "a run; of 'two'"
    port = free_port()
    own = [environment_of(number, port) for number in range(2)]
    slice_ = LocalSlice(tmp_path, shlex.join(MRE), ENVIRONMENT, own)
    done = []

    def supervise():
        settings = {
            **slice_.code,
            "RUN": str(run),
            "COMMAND": f"mre train '{config}' --run {{run}}",
            "POLL_SECONDS": "1",
            "MAX_STALLED": "3",
        }
        done.append(slice_.cloud.pod("supervise", patience=PATIENCE, **settings))

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    wait_for(6, run, done)
    (process,) = slice_.processes(1)
    os.killpg(process, signal.SIGKILL)
    wait_for(last_step(run) + 8, run, done)
    slice_.take_away()
    supervisor.join()
    (supervised,) = done
    assert supervised.returncode == 0, supervised.stderr
    assert same_bits(saved_state(run, STEPS), saved_state(undisturbed, STEPS))
    calls = slice_.cloud.calls()
    assert calls.count("resources create") == calls.count("resources delete") == 2
    assert calls.count("worker.sh launch") == 3
    # Logs of all attempts are there, though all machines are gone.
    logs = list(Path(f"{run}.logs").glob("*/worker-*.log"))
    assert len(logs) == 6 and len({log.parent for log in logs}) == 3
    figures.report(
        "two hosts by gcloud's stand-in: one killed, then the slice taken away: launched 3 times, "
        "final state bit-equal, logs of all attempts there"
    )


def test_the_doctor_of_two_workers_finds_them_ready_or_says_how_they_differ(tmp_path, config):
    for number, (flags, code) in enumerate((("", 0), ("--xla_cpu_enable_fast_math=true", 78))):
        port = free_port()
        own = [environment_of(worker, port) for worker in range(2)]
        own[1]["XLA_FLAGS"] = f"{ENVIRONMENT['XLA_FLAGS']} {flags}".strip()
        folder = tmp_path / str(number)
        slice_ = LocalSlice(folder, shlex.join(MRE), ENVIRONMENT, own, ready=True)
        settings = {**slice_.code, "RUN": str(folder / "run")}
        settings["COMMAND"] = f"mre train '{config}' --run {{run}}"
        assert slice_.cloud.pod("setup", **settings).returncode == 0
        done = slice_.cloud.pod("preflight", **settings)
        assert done.returncode == code, done.stderr
        said = done.stderr if code else done.stdout
        assert ("2 workers: 0 failures" in said) == (code == 0)
        assert ("XLA_FLAGS differs:" in said) == (code == 78)


def test_r18_the_jobsets_command_goes_the_same_way(tmp_path, config, undisturbed):
    """Two pods run what the manifest says; its rules start them again after a kill."""
    figures = Figures("R18")
    run = tmp_path / "run"
    command = f"mre train '{config}' --run {{run}}"
    made = manifest(from_values(SETTINGS | GKE | {"RUN": str(run), "COMMAND": command}))
    (job,) = made["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    restarts = 0
    while True:
        port = free_port()
        pods = [
            subprocess.Popen(
                [*MRE, *container["args"]],
                env=ENVIRONMENT | environment_of(number, port),
                stdout=subprocess.DEVNULL,
            )
            for number in range(job["template"]["spec"]["completions"])
        ]
        if not restarts:
            while last_step(run) < 10:
                assert all(pod.poll() is None for pod in pods)
                time.sleep(0.05)
            pods[1].kill()
        codes = [pod.wait(PATIENCE) for pod in pods]
        if codes == [0, 0]:
            break
        # As a container's runtime has it: 128 and the signal.
        assert action(made, 128 - codes[1]) == "RestartJobSetAndIgnoreMaxRestarts"
        restarts += 1
        assert restarts < 3
    assert restarts == 1
    assert same_bits(saved_state(run, STEPS), saved_state(undisturbed, STEPS))
    figures.report("two pods by the JobSet's command and rules: one killed, final state bit-equal")
