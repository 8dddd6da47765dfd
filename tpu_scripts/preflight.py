"""Can the workers of a slice work together? `python -m tpu_scripts.preflight WORKER WORKERS`.

Runs on every worker at the same time, in the environment that the run will have. Each prints a
line; `tpu_scripts/pod preflight` compares them. With TPU_PROCESS_BOUNDS set it asks this worker
alone.
"""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from mre_jax.training.liveness import guarded, start_distributed


def main() -> int:
    """Prints what this worker is; the exit code is 70 if the workers do not add up."""
    worker, workers = sys.argv[1:]
    expected = 1 if "TPU_PROCESS_BOUNDS" in os.environ else int(workers)
    if expected > 1:
        start_distributed()
    if jax.process_count() != expected:
        print(f"{jax.process_count()} workers have met, not {expected}", file=sys.stderr)
        return 70
    ones = multihost_utils.process_allgather(jnp.ones(jax.local_device_count(), jnp.int32))
    if int(ones.sum()) != jax.device_count():
        print(f"a sum over {jax.device_count()} devices is {int(ones.sum())}", file=sys.stderr)
        return 70
    free = shutil.disk_usage(Path.home()).free // 10**9
    print(
        f"mre-pod worker={worker} software={_software()} devices={jax.device_count()} "
        f"kind={jax.devices()[0].device_kind.replace(' ', '_')} free_gb={free} "
        f"clock={int(time.time())}",
        flush=True,
    )
    return 0


def _software() -> str:
    """A hash of Python's version and those of all that is installed."""
    found = {f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions()}
    lines = [platform.python_version(), *sorted(found)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


if __name__ == "__main__":
    with guarded():
        code = main()
    sys.exit(code)
