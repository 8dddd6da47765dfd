"""A process of a run to which something happens: HAPPENS FOLDER, the coordinator by environment."""

import json
import os
import sys
import time

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}

import jax
import jax.experimental.multihost_utils

from mre_jax.errors import DataError
from mre_jax.training import liveness
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.liveness import Watchdog, guarded, start_distributed
from tests.training.states import make_mesh, make_state


def main() -> int:
    happens, folder = sys.argv[1:]
    liveness.HEARTBEAT_SECONDS = 10
    start_distributed()
    start_distributed()  # Once more does nothing.
    say("joined", processes=jax.process_count())
    here = jax.process_index() == jax.process_count() - 1
    with Watchdog(8, first_seconds=60) as watchdog:
        watchdog.arm("the first step")
        if happens == "preemption":
            return steps_until_preempted(folder)
        if happens == "exception" and here:
            raise ZeroDivisionError("a bug")
        if happens == "everywhere":
            raise DataError("a bad shard on every host")
        if happens == "hang" and here:
            watchdog.arm("step 7", seconds=1)
            time.sleep(600)
        meet()
    return 0


def meet() -> None:
    """What every step does: wait for the others."""
    jax.experimental.multihost_utils.sync_global_devices("step")


def steps_until_preempted(folder: str) -> int:
    mesh = make_mesh(1)
    checkpoints = Checkpoints(folder, every=1000, keep=1)
    for step in range(1, 200):
        time.sleep(0.1)
        say("step", step=step)
        if checkpoints.reached_preemption(step):
            say("noticed", step=step)
            checkpoints.save(step, make_state(step, mesh), {})
            checkpoints.close()
            say("saved", step=step)
            raise SystemExit(75)
    return 1


def say(event: str, **values) -> None:
    print(json.dumps({"event": event, "time": time.time(), **values}), flush=True)


if __name__ == "__main__":
    with guarded():
        code = main()
    sys.exit(code)
