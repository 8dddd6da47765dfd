"""A run of `mre train` on disk: its configuration, and the command in this process or another."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import yaml
from etils import epath

from mre_jax import cli
from mre_jax.io.growing_file import rows_so_far
from tests.conftest import XLA_FLAGS

STEPS = 6
LAST, MIDDLE = 80, 40
"""Steps of the run that is interrupted, and one of them whose checkpoint stays."""
PATIENCE = 1200
"""Seconds that a process may take to start; most of a minute on an idle machine."""


def write_config(path: Path, editor: Path, shards: Path, **changes: Any) -> Path:
    """Writes a configuration of STEPS steps on 16 px pictures, with changes by section or key."""
    values: dict = {
        "name": "tiny",
        "steps": STEPS,
        "model": {
            "init_from": str(editor),
            "compute_dtype": "float32",
            "ema_decay": 0.99,
            "reward": {"score_width": 8, "num_attention_heads": 4},
        },
        "data": {"paths": [str(shards)], "batch_size": 8, "resolution": 16, "threads": 1},
        "optimizer": {"learning_rate": 1e-3},
        "checkpoint": {"every": 2, "keep": 2},
        "log": {"every": 1, "tensorboard": False},
    }
    for name, change in changes.items():
        values[name] = {**values.get(name, {}), **change} if isinstance(change, dict) else change
    path.write_text(yaml.safe_dump(values))
    return path


def train(config: Path, run: Path, *arguments: str) -> int:
    """`mre train` in this process; its exit code. No watchdog: it would end the tests."""
    options = ["--run", str(run), "--alone", "guard.watchdog_seconds=0"]
    return cli.main(["train", str(config), *options, *arguments])


class Process:
    """`mre train` in a process of its own, or one process of a run of several.

    Args:
        config: its file.
        run: its directory; what the process prints goes into a file beside it.
        settings: further arguments.
        fault: of `faulty_train`.
        devices: simulated ones.
        process: number of this one, of `processes`, which meet at `port`.
    """

    def __init__(
        self,
        config: Path,
        run: Path,
        *settings: str,
        fault: str = "",
        devices: int = 1,
        process: int = 0,
        processes: int = 1,
        port: int = 0,
    ):
        count = f"--xla_force_host_platform_device_count={devices}"
        environment = {
            "XLA_FLAGS": " ".join([*XLA_FLAGS[1:], count]),
            # The small programs of saving, too: a run starts a dozen times.
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        if processes > 1:
            environment |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(processes),
                "JAX_PROCESS_ID": str(process),
            }
        self._log = run.with_name(f"{run.name}-{process}.log")
        worker = [sys.executable, "-m", "tests.training.faulty_train", fault]
        with self._log.open("wb") as log:  # Not a pipe, which somebody would have to read.
            self._process = subprocess.Popen(
                [*worker, "train", str(config), "--run", str(run), *settings],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit code; negative for a signal."""
        return self._process.wait(seconds)

    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it without a warning."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def output(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")


def start_two(
    config: Path, run: Path, *settings: str, faults: tuple[str, str] = ("", "")
) -> list[Process]:
    """A run of two processes with a device each."""
    port = free_port()
    return [
        Process(config, run, *settings, fault=fault, process=number, processes=2, port=port)
        for number, fault in enumerate(faults)
    ]


def wait_for_step(run: Path, step: int, processes: list[Process]) -> None:
    """Until the run's log has a row of the step."""
    end = time.monotonic() + PATIENCE
    while last_step(run) < step:
        gone = [process.output() for process in processes if process.ended()]
        assert not gone, f"ended before step {step}: {gone[0][-2000:]}"
        assert time.monotonic() < end, f"step {step} never came"
        time.sleep(0.01)


def last_step(run: Path) -> int:
    """The newest step in the run's log; 0 if there is none."""
    rows = rows_so_far(run / "metrics.jsonl")
    return rows[-1]["step"] if rows else 0


def losses(run: Path) -> list[float]:
    """Of each step of a run that logs all."""
    return [row["loss"] for row in rows_so_far(run / "metrics.jsonl")]


def saved_state(run: Path, step: int) -> dict:
    """The arrays of a checkpoint as they lie on the disk."""
    handler = ocp.PyTreeCheckpointHandler()
    path = epath.Path(run) / "checkpoints" / str(step) / "state"
    kinds = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
    )
    return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=kinds))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
