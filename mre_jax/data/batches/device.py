"""Batches on the devices: each host's part becomes its share of one global array."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, UInt8

from mre_jax.data.batches.batch import Batch
from mre_jax.errors import ConfigError


def to_global(batch: Batch, mesh: Mesh, axes: tuple[str, ...] | None = None) -> Batch:
    """Lays a batch on the devices of all hosts, split along its first axis.

    Args:
        batch: this host's part, with token ids.
        mesh: mesh of all devices; those of a host must be neighbours along `axes`.
        axes: axes of the mesh that split the batch; None is all of them.

    Returns:
        The global batch as JAX arrays. `positions` are uint32.

    Raises:
        ConfigError: if there are texts in it, or it does not divide among the devices.
    """
    if isinstance(batch.instruction, list) or isinstance(batch.reward_text, list):
        raise ConfigError("a batch of texts cannot go to a device; give the loader a tokenizer")
    axes = tuple(mesh.axis_names) if axes is None else axes
    parts = int(np.prod([mesh.shape[axis] for axis in axes]))
    total = len(batch.positions) * jax.process_count()
    if total % parts:
        raise ConfigError(f"a batch of {total} does not divide among {parts} devices")
    sharding = NamedSharding(mesh, PartitionSpec(axes))
    batch = batch._replace(positions=batch.positions.astype(np.uint32))
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(sharding, a), batch)


def prefetch(
    batches: Iterable[Batch], mesh: Mesh, axes: tuple[str, ...] | None = None, ahead: int = 2
) -> Iterator[Batch]:
    """Global batches, `ahead` at a time: one to work on, the others on their way."""
    arrays = (to_global(batch, mesh, axes) for batch in batches)
    queue = deque(itertools.islice(arrays, ahead))
    while queue:
        yield queue.popleft()
        queue.extend(itertools.islice(arrays, 1))


def to_float(pixels: UInt8[Array, "b H W 3"]) -> Float32[Array, "b H W 3"]:
    """Pixels in [-1, 1], as the networks read them; for use inside a jitted step."""
    return pixels.astype(jnp.float32) / 127.5 - 1
