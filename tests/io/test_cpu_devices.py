"""A device per core, for commands that run small networks on a CPU."""

import os
import subprocess
import sys

import pytest

COUNT = "from mre_jax.io.cpu_devices import use_all_cores; print(use_all_cores())"


def devices(flags: str) -> int:
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.slow
def test_there_is_a_device_for_each_core():
    assert devices("") == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_a_number_that_is_asked_for_stays():
    assert devices("--xla_force_host_platform_device_count=3") == 3
