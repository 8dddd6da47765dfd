"""All cores of a machine without an accelerator, as devices that share each batch.

XLA's threads do little for the small matrices of a small network; a device per core does.
"""

import os

import jax

from mre_jax.io.processes import usable_cores


def use_all_cores() -> int:
    """Makes a CPU device of each core; for a command to call before JAX computes anything.

    Where there is an accelerator it stays in charge, and where `XLA_FLAGS` already say how many
    devices there are they are obeyed.

    Returns:
        The number of devices.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        jax.config.update("jax_num_cpu_devices", usable_cores())
    return jax.device_count()
