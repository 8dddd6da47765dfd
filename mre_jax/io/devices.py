"""The devices of this process: programs kept for them, cores as devices, one batch over all.

Where a network runs on several devices, each has a copy of the weights and takes its part of every
batch; the parts know nothing of each other.
"""

import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mre_jax.io.processes import usable_cores

DATA_AXIS = "data"


def keep_programs(folder: str | None = None) -> str:
    """Keeps compiled programs in `folder`, so that a second start does not compile them again.

    A folder already set, by `JAX_COMPILATION_CACHE_DIR` or in JAX's configuration, wins. The
    default is per user and JAX version: whoever can write there can run code in this process, so
    it must not be shared.

    Returns:
        The folder.
    """
    current = jax.config.values["jax_compilation_cache_dir"]
    if current:
        return current
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = folder or str(cache / "mre_jax" / f"xla-{jax.__version__}")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 2.0)
    return folder


def use_all_cores(dividing: int | None = None) -> int:
    """Makes a CPU device of each core; for a command to call before JAX computes anything.

    XLA's threads do little for the small matrices of a small network; a device per core does. Where
    there is an accelerator it stays in charge, and where `XLA_FLAGS` already say how many devices
    there are they are obeyed.

    Args:
        dividing: a batch size that the number of devices must divide: of six cores a batch of 32
            takes four.

    Returns:
        The number of devices.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        jax.config.update("jax_num_cpu_devices", _at_most(usable_cores(), dividing))
    return jax.device_count()


def _at_most(cores: int, dividing: int | None) -> int:
    """The largest number of devices for so many cores."""
    return next(n for n in range(cores, 0, -1) if dividing is None or dividing % n == 0)


def compiler_options() -> dict[str, str]:
    """What `jax.jit` should be told where this process computes on one device.

    On a CPU it is to convolve with XLA's own kernels: those of its YNN library take two to five
    times as long on small maps. On several devices of a process XLA's own have given wrong numbers
    (jaxlib 0.10.2; two devices that edited eleven pictures each), so they are not asked for there.
    """
    alone_on_cpu = jax.default_backend() == "cpu" and jax.local_device_count() == 1
    return {"xla_cpu_experimental_ynn_fusion_type": ""} if alone_on_cpu else {}


def batch_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The devices along one axis, `DATA_AXIS`; by default all that belong to this process."""
    return Mesh(np.asarray(list(devices or jax.local_devices())), (DATA_AXIS,))


def copied(mesh: Mesh) -> NamedSharding:
    """Where weights are: whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Where a batch is: a part on every device, whose number divides it."""
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def split_longest(
    mesh: Mesh, shape: Sequence[int], axes: Sequence[str] = (DATA_AXIS,)
) -> NamedSharding:
    """Where an array is whose longest dimension that `axes` divide is split over them.

    An array without one is copied, and so are vectors: all of them are 0.1 % of the parameters of a
    network, and splitting them would cost hundreds of small operations a step.

    Args:
        axes: of the mesh; by default that of `batch_mesh`, for a weight that is too large for each
            device to have a copy.

    Example:
        >>> mesh = Mesh(np.asarray(jax.devices()[:1]), ("fsdp",))
        >>> split_longest(mesh, (4, 8), ("fsdp",)).is_fully_replicated
        True
    """
    parts = math.prod(mesh.shape[axis] for axis in axes)
    fitting = [(size, -d) for d, size in enumerate(shape) if size % parts == 0 and size]
    if parts == 1 or len(shape) < 2 or not fitting:
        return copied(mesh)
    dimension = -max(fitting)[1]
    return NamedSharding(mesh, PartitionSpec(*[None] * dimension, tuple(axes)))


def on_parts(
    function: Callable[..., Any], mesh: Mesh, *, whole: Collection[int] = (0,)
) -> Callable[..., Any]:
    """A function that runs on every device with its part of the batch, to be jitted.

    Args:
        function: from pytrees of arrays to one with the batch first, where an example's result does
            not depend on the others of the batch.
        mesh: devices, from `batch_mesh`.
        whole: positions of the arguments that every device has whole, such as weights; the others
            are split along their first axis.

    Example:
        >>> import jax.numpy as jnp
        >>> double = jax.jit(on_parts(lambda weight, x: weight * x, batch_mesh()))
        >>> int(double(2.0, jnp.ones(8)).sum())
        16
    """

    def run(*args: Any) -> Any:
        parts = PartitionSpec(DATA_AXIS)
        specs = tuple(PartitionSpec() if n in whole else parts for n in range(len(args)))
        # The parts are independent: nothing is communicated, nothing needs to be checked.
        return jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=parts, check_vma=False)(
            *args
        )

    return run
