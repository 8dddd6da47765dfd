"""A run ends, with a reason and in bounded time, whatever happens to one of its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.training import liveness
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.liveness import Watchdog, guarded, start_distributed
from tests.training.figures import Figures


class TestGuarded:
    """A process that is alone leaves in the ordinary way."""

    def test_an_error_of_the_user_goes_to_the_command_line(self):
        with pytest.raises(DataError, match="a bad shard"):
            guard(DataError("a bad shard"))

    def test_an_exit_is_an_exit(self):
        with pytest.raises(SystemExit) as raised:
            guard(SystemExit(75))
        assert raised.value.code == 75

    def test_a_crash_shows_its_stack_and_may_be_retried(self, capsys):
        with pytest.raises(SystemExit) as raised:
            guard(ZeroDivisionError("a bug"))
        assert raised.value.code == 70
        assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def guard(error):
    with guarded():
        raise error


class TestStart:
    @pytest.fixture(autouse=True)
    def no_variables(self, monkeypatch):
        for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
            monkeypatch.delenv(name, raising=False)

    def test_half_a_description_is_refused(self, monkeypatch):
        monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
        with pytest.raises(ConfigError, match="belong together"):
            start_distributed()

    def test_a_count_that_is_no_number_is_named(self, monkeypatch):
        monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
        with pytest.raises(ConfigError, match="JAX_NUM_PROCESSES=two is not a number"):
            start_distributed()

    def test_processes_are_counted_from_0(self):
        with pytest.raises(ConfigError, match="process 2 of 2"):
            start_distributed("localhost:1", processes=2, process=2)


LATE = """
import sys
from mre_jax.training import liveness
liveness.START_SECONDS = 2
with liveness.guarded():
    liveness.start_distributed(sys.argv[1], 2, 1)
"""


def test_what_jax_cannot_join_is_left_at_once(monkeypatch, capsys):
    """Asked for anything more, a process that is half joined would wait again."""
    left = []

    def initialize(*args, **kwargs):
        raise RuntimeError("the port is taken\nand more")

    def leave(code):
        left.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(liveness.jax.distributed, "initialize", initialize)
    monkeypatch.setattr(liveness.os, "_exit", leave)
    monkeypatch.setattr(liveness.jax.config, "update", lambda *setting: None)
    with pytest.raises(SystemExit), guarded():
        start_distributed("localhost:1", 2, 0)
    assert left == [70]
    assert capsys.readouterr().err == (
        "error: cannot join the run at localhost:1: the port is taken\n"
    )


@pytest.mark.slow
def test_a_process_that_finds_no_others_says_so_and_may_be_retried():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # Bound, and so nobody else's; nobody listens.
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", LATE, address], capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 70, done.stderr
    assert f"did not meet in 2 s as process 1 of 2 at {address}; see that" in done.stderr
    assert "Traceback" not in done.stderr


HANGING = """
import sys, time
from mre_jax.training.liveness import Watchdog
with Watchdog(2.0, first_seconds=60.0) as watchdog:
    watchdog.arm("step 1")
    time.sleep(2.5)
    for step in range(2, 6):
        watchdog.arm(f"step {step}")
        time.sleep(0.05)
    print("healthy", flush=True)
    END
print("left", flush=True)
time.sleep(3)
"""


def test_a_step_that_hangs_ends_the_process_with_its_stacks():
    """The first step, which compiles, has longer."""
    code = HANGING.replace("END", "time.sleep(60)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.stdout == "healthy\n"
    assert done.returncode == 70
    assert "error: step 5 hangs" in done.stderr
    assert 'File "<string>", line' in done.stderr


def test_a_watchdog_that_is_left_or_off_ends_nothing():
    code = HANGING.replace("END", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (0, "healthy\nleft\n")
    with Watchdog(0) as watchdog:
        watchdog.arm("step 1", seconds=0.0)
        time.sleep(0.05)


def test_a_block_that_hangs_ends_the_process():
    code = """
import time
from mre_jax.training.liveness import watched
with watched("loading", 0.2, first_seconds=60.0):
    time.sleep(0.4)
with watched("restoring", 0.2):
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 70
    assert "error: restoring hangs" in done.stderr


def start(happens, folder, count):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    several = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tests.training.failing_process", happens, str(folder)],
            env=os.environ | (several | {"JAX_PROCESS_ID": str(number)} if count > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]


def events(out):
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("happens", "code", "says", "limit"),
    [
        ("exception", 70, "ZeroDivisionError: a bug", 30),
        ("everywhere", 65, "error: a bad shard on every host", 10),
        ("hang", 70, "error: step 7 hangs", 30),
    ],
)
def test_r7_what_happens_to_one_process_ends_both(tmp_path, happens, code, says, limit):
    figures = Figures("R7")
    processes = start(happens, tmp_path, 2)
    outputs = [process.communicate(timeout=200) for process in processes]
    ended = time.time()
    joined = [next(e for e in events(out) if e["event"] == "joined") for out, _ in outputs]
    assert [event["processes"] for event in joined] == [2, 2]
    assert processes[1].returncode == code
    assert says in outputs[1][1]
    assert "/failing_process.py" in outputs[1][1] or code == 65
    assert processes[0].returncode != 0
    seconds = ended - max(event["time"] for event in joined)
    assert seconds < limit
    figures.report(f"{happens}: both of 2 processes gone after {seconds:.1f} s, exit {code}")


@pytest.mark.slow
def test_r6_a_process_that_is_alone_saves_when_told_to_end(tmp_path):
    figures = Figures("R6")
    (process,) = start("preemption", tmp_path, 1)
    for line in process.stdout:
        if '"step": 3' in line:
            break
    told = time.time()
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 75, errors
    noticed, saved = events(out)[-2:]
    assert (noticed["event"], saved["event"]) == ("noticed", "saved")
    assert Checkpoints(tmp_path, every=1, keep=1).committed() == [saved["step"]]
    figures.report(
        f"SIGTERM to 1 process: noticed after {noticed['time'] - told:.1f} s, "
        f"saved after {saved['time'] - told:.1f} s, exit 75"
    )
