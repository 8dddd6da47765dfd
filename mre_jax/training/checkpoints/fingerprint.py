"""Fingerprints of a training state: one number a leaf, the same for every sharding of it.

The storage library restores flipped bits without a word, and replicas can drift apart unnoticed.
One pass over the state finds both. Every device hashes its own part of every leaf, each element
with its position in the whole leaf, and the host adds the parts up modulo 2**32, so that neither
the layout nor the order of the sum matters. Hashing an element is one-to-one: a change of any
single element always shows, one of several is missed once in 2**32. This is against accidents,
not against an attacker.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

Index = tuple[tuple[int, int], ...]
"""Start and end along each axis: which part of a leaf a device holds."""


@dataclasses.dataclass(frozen=True)
class LeafParts:
    """The hashes of one leaf, by device.

    Attributes:
        path: place of the leaf in the state, `params/conv_in.kernel`.
        parts: by device id, the part it holds and that part's hash. Devices of other processes
            are there after `gathered`.
    """

    path: str
    parts: dict[int, tuple[Index, int]]

    def total(self) -> int:
        """The fingerprint of the whole leaf: its distinct parts added, modulo 2**32."""
        return sum(dict(self.parts[device] for device in sorted(self.parts)).values()) % 2**32


def fingerprints(state: Any) -> dict[str, int]:
    """The fingerprint of each leaf of a state, by the leaf's path; the same on every process.

    Args:
        state: a pytree of arrays of 1, 2, 4 or 8 bytes an element, booleans or typed random keys,
            sharded over one mesh in any way. All processes call this together.

    Returns:
        Numbers in [0, 2**32).
    """
    return {leaf.path: leaf.total() for leaf in measure(state)}


def measure(state: Any) -> list[LeafParts]:
    """The hashes of every leaf on every device of all processes, in the order of the leaves."""
    named = jax.tree_util.tree_flatten_with_path(state)[0]
    leaves = [_on_a_mesh(leaf) for _, leaf in named]
    shardings = [cast(NamedSharding, x.sharding) for x in leaves]
    hashed = [_program(s.mesh, s.spec)(x) for s, x in zip(shardings, leaves, strict=True)]
    local = _read(hashed)
    values = _gathered(local) if jax.process_count() > 1 else local
    return [
        LeafParts(leaf_path(keys), {d: (index, value[d]) for d, index in _indices(leaf).items()})
        for (keys, _), leaf, value in zip(named, leaves, values, strict=True)
    ]


def _read(hashed: list[jax.Array]) -> list[dict[int, int]]:
    """The values that this process's devices hold of each array, by device id.

    They are joined on the devices: fetching thousands of single numbers takes longer than
    hashing the state.
    """
    found: list[dict[int, int]] = [{} for _ in hashed]
    by_mesh: dict[Any, list[int]] = {}
    for number, array in enumerate(hashed):
        by_mesh.setdefault(cast(NamedSharding, array.sharding).mesh, []).append(number)
    for mesh, numbers in by_mesh.items():
        for start in range(0, len(numbers), _JOINED):
            chunk = numbers[start : start + _JOINED]
            for shard in _join(mesh)([hashed[n] for n in chunk]).addressable_shards:
                values = np.asarray(shard.data).ravel().tolist()
                for number, value in zip(chunk, values, strict=True):
                    found[number][shard.device.id] = value
    return found


@functools.lru_cache
def _join(mesh: Mesh) -> Callable[[list[jax.Array]], jax.Array]:
    sharding = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    return jax.jit(lambda arrays: jnp.stack(arrays, axis=-1), out_shardings=sharding)


def leaf_path(keys: tuple[Any, ...]) -> str:
    """The path of a leaf as it is shown to a user: `optimizer/0/mu/conv_in.kernel`."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _on_a_mesh(leaf: Any) -> jax.Array:
    """The leaf with a sharding that has a mesh and, in place of random keys, their words."""
    if not isinstance(leaf, jax.Array) or not isinstance(leaf.sharding, NamedSharding):
        device = next(iter(leaf.devices())) if isinstance(leaf, jax.Array) else jax.devices()[0]
        mesh = Mesh(np.array([device]), ("all",))
        leaf = jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = _key_words(leaf.sharding)(leaf)
    return cast(jax.Array, leaf)


@functools.lru_cache
def _key_words(sharding: NamedSharding) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(jax.random.key_data, out_shardings=sharding)


@functools.lru_cache
def _program(mesh: Mesh, spec: PartitionSpec) -> Callable[[jax.Array], jax.Array]:
    """Hashes each device's part of an array; no device waits for another.

    A program a shape, not one for the whole state: a state has thousands of leaves but a hundred
    shapes, and compiling each leaf would take longer than a checkpoint.
    """

    def local(part: Array) -> UInt32[Array, "..."]:
        names = [spec[axis] if axis < len(spec) else None for axis in range(part.ndim)]
        counts = [math.prod(mesh.shape[name] for name in _axes(entry)) for entry in names]
        shape = [size * count for size, count in zip(part.shape, counts, strict=True)]
        words = _words(part)
        if words.ndim > part.ndim:  # 8 bytes an element are two words.
            shape.append(words.shape[-1])
        position = jnp.uint32(0)
        for axis, size in enumerate(words.shape):
            along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
            if axis < len(names) and names[axis] is not None:
                first = jax.lax.axis_index(_axes(names[axis])).astype(jnp.uint32)
                along += first * jnp.uint32(size % 2**32)
            position += along * jnp.uint32(math.prod(shape[axis + 1 :]) % 2**32)
        total = jnp.sum(_mixed(words, position), dtype=jnp.uint32)
        return total.reshape((1,) * len(mesh.axis_names))

    return jax.jit(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=spec,
            out_specs=PartitionSpec(*mesh.axis_names),
            check_vma=False,
        )
    )


def _words(part: Array) -> UInt32[Array, "..."]:
    """The bits of an array's elements as 32-bit words."""
    if part.dtype == jnp.bool_:
        part = part.astype(jnp.uint8)
    words = {1: jnp.uint8, 2: jnp.uint16}.get(part.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(part, words).astype(jnp.uint32)


def _mixed(words: UInt32[Array, "..."], position: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """An invertible hash of each word at its position (two rounds of multiply and xor-shift)."""
    mixed = words ^ (position * jnp.uint32(0x9E3779B1))
    mixed = (mixed ^ (mixed >> 16)) * jnp.uint32(0x7FEB352D)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x846CA68B)
    return jnp.bitwise_xor(mixed, mixed >> 16)


def _axes(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _indices(leaf: jax.Array) -> dict[int, Index]:
    """Which part each device holds, for the devices of all processes."""
    indices: Mapping[Any, Any] = leaf.sharding.devices_indices_map(leaf.shape)
    return {
        device.id: tuple(
            slice_.indices(size)[:2] for slice_, size in zip(index, leaf.shape, strict=True)
        )
        for device, index in indices.items()
    }


def _gathered(local: list[dict[int, int]]) -> list[dict[int, int]]:
    """The hashes of all processes; a leaf that is on one process's devices only stays local."""
    ids = [device.id for device in jax.local_devices()]
    table = np.array([[leaf.get(i, 0) for i in ids] for leaf in local], np.uint32)
    tables = multihost_utils.process_allgather(table)
    everyone = multihost_utils.process_allgather(np.array(ids, np.int32))
    return [
        {
            int(device): int(tables[process, row, column])
            for process, devices in enumerate(everyone)
            for column, device in enumerate(devices)
        }
        for row in range(len(local))
    ]


_JOINED = 64
"""Numbers fetched at once: enough to be fast, few enough to compile quickly."""
