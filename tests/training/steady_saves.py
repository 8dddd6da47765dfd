"""A run that goes on from the newest checkpoint and saves every step, until it is killed.

Usage: FOLDER rename|commit_file [width=N] [kill_at_unlink=N: dies deleting its Nth file]
"""

import json
import os
import signal
import sys

os.environ |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}  # One device: it starts faster.

from mre_jax.training.checkpoints.checkpoint import Checkpoints
from tests.training.states import abstract, make_mesh, make_state


def main() -> None:
    folder, mode, *words = sys.argv[1:]
    settings = {key: int(value) for key, value in (word.split("=") for word in words)}
    width = settings.get("width", 8)
    mesh = make_mesh(1)
    checkpoints = Checkpoints(folder, every=1, keep=2, commit_file=mode == "commit_file")
    restored = checkpoints.restore_newest(abstract(make_state(0, mesh, width), mesh))
    first = restored.step + 1 if restored else 1
    if "kill_at_unlink" in settings:
        die_deleting(settings["kill_at_unlink"])
    for step in range(first, first + 50):
        checkpoints.save(step, make_state(step, mesh, width), {})
        print(json.dumps({"begun": step}), flush=True)


def die_deleting(count: int) -> None:
    unlink, done = os.unlink, 0

    def counted(*args, **kwargs):
        nonlocal done
        done += 1
        if done == count:
            os.kill(os.getpid(), signal.SIGKILL)
        unlink(*args, **kwargs)

    os.unlink = counted


if __name__ == "__main__":
    main()
