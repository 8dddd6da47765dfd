"""How a run is laid out on its devices: a mesh of two axes, and where each array lives on it.

The batch is split over both axes. Parameters have two layouts. In *storage* (float32 parameters,
their moving average, the optimizer's moments) they are split over `fsdp`, and over `data` too with
`mesh.shard_optimizer` (ZeRO-1, Rajbhandari et al. 2020). For *compute* they are cast and then
gathered over `data`, so that half the bytes travel and every device keeps a copy only while it
needs one; over `fsdp` they stay split until XLA gathers them layer by layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mre_jax.errors import ConfigError
from mre_jax.io.devices import split_longest
from mre_jax.training.config import MeshConfig, TrainConfig

DATA, FSDP = "data", "fsdp"
AXES = (DATA, FSDP)


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh (data, fsdp) of all devices of all hosts.

    Args:
        config: sizes of the axes.
        devices: None is `jax.devices()`.

    Raises:
        ConfigError: if the axes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    count = len(devices)
    if count % config.fsdp:
        raise ConfigError(f"mesh.fsdp={config.fsdp} does not divide the {count} devices")
    data = count // config.fsdp if config.data == -1 else config.data
    if data * config.fsdp != count:
        raise ConfigError(
            f"mesh.data={data} x mesh.fsdp={config.fsdp} is not the {count} devices there are; "
            "mesh.data=-1 takes all of them"
        )
    return Mesh(arranged(devices, data, config.fsdp), AXES)


def arranged(devices: Sequence[jax.Device], data: int, fsdp: int) -> np.ndarray:
    """Devices as an array [data fsdp], near ones along `fsdp` where the hardware says so.

    Slices follow each other, and so do processes in their order, since a process reads a
    contiguous part of every batch. Within a process, or a slice whose processes share a row,
    devices follow the torus, if that keeps the order of the processes.
    """
    found = _near(devices, data, fsdp)
    processes = [device.process_index for device in found.flat]
    if processes == sorted(processes):
        return found
    return np.asarray(sorted(devices, key=lambda d: (d.process_index, d.id))).reshape(data, fsdp)


def _near(devices: Sequence[jax.Device], data: int, fsdp: int) -> np.ndarray:
    for attribute in ("slice_index", "process_index"):
        numbers = sorted({getattr(device, attribute, 0) for device in devices})
        if len(numbers) > 1 and data % len(numbers) == 0:
            groups = ([d for d in devices if getattr(d, attribute, 0) == n] for n in numbers)
            return np.concatenate([_near(group, data // len(numbers), fsdp) for group in groups])
    try:
        return mesh_utils.create_device_mesh((data, fsdp), devices)
    except NotImplementedError:  # no axis of the torus is as long as one of the mesh
        return mesh_utils.create_device_mesh((data, fsdp), devices, allow_split_physical_axes=True)


class Layout(NamedTuple):
    """Where a run's arrays live.

    Attributes:
        mesh: all devices.
        split: the axes over which stored parameters are split.
    """

    mesh: Mesh
    split: tuple[str, ...]

    @classmethod
    def of(cls, config: MeshConfig, mesh: Mesh) -> "Layout":
        """The layout that a configuration asks for on a mesh."""
        return cls(mesh, AXES if config.shard_optimizer else (FSDP,))

    @property
    def replicated(self) -> NamedSharding:
        """A copy on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """The first axis split over all devices."""
        return NamedSharding(self.mesh, PartitionSpec(AXES))

    def storage(self, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        """Of a stored array; `leaf` has a shape."""
        return split_longest(self.mesh, leaf.shape, self.split)

    def compute(self, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        """Of the copy that the networks read."""
        return split_longest(self.mesh, leaf.shape, (FSDP,))


def check_batch(config: TrainConfig, mesh: Mesh, hosts: int) -> None:
    """Refuses a batch that does not divide, before anything is compiled.

    Raises:
        ConfigError: naming the key.
    """
    batch_size, accumulation = config.data.batch_size, config.optimizer.accumulation
    together = config.loss.together
    parts = accumulation * mesh.size * together
    if batch_size % parts:
        raise ConfigError(
            f"data.batch_size={batch_size} does not divide over {mesh.size} devices"
            + (f" x {accumulation} accumulated parts" if accumulation > 1 else "")
            + (" in whole pairs" if together > 1 else "")
            + f"; {max(1, batch_size // parts) * parts} would"
        )
    if batch_size % hosts:
        raise ConfigError(f"data.batch_size={batch_size} does not divide over {hosts} hosts")
