"""Small training states of every kind of leaf, on meshes of the simulated devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def make_mesh(devices: int, fsdp: int = 1) -> Mesh:
    return Mesh(np.array(jax.devices()[:devices]).reshape(-1, fsdp), ("data", "fsdp"))


def make_state(seed: int, mesh: Mesh, width: int = 8):
    """The state of a run: replicated parameters, optimizer and average sharded over `data`."""
    rng = np.random.default_rng(seed)
    params = {
        "conv_in.kernel": rng.standard_normal((3, 3, 4, width), np.float32),
        "conv_in.bias": rng.standard_normal(width, np.float32),
        "reward.score.embedding": rng.standard_normal((8, width)).astype(jnp.bfloat16),
    }
    moments = optax.ScaleByAdamState(
        count=np.int32(seed),
        mu=jax.tree.map(lambda x: x * x.dtype.type(0.1), params),
        nu=jax.tree.map(lambda x: x * x, params),
    )
    state = {
        "step": np.int32(seed),
        "params": params,
        "ema": jax.tree.map(lambda x: x * x.dtype.type(0.5), params),
        "optimizer": (moments, optax.EmptyState()),
        "skipped": np.int32(0),
        "key": jax.random.key(seed),
        "frozen": np.array([True, False, True]),
    }
    return jax.device_put(state, shardings(state, mesh))


def shardings(state, mesh: Mesh):
    def sharding(keys, leaf):
        split = keys[0].key in ("optimizer", "ema") and leaf.ndim and leaf.shape[-1] % 8 == 0
        spec = (*[None] * (leaf.ndim - 1), "data") if split else ()
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(sharding, state)


def abstract(state, mesh: Mesh):
    """What to restore a state as, on another mesh than its own."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
        state,
        shardings(state, mesh),
    )


def same_bits(one, other) -> bool:
    """Compares every leaf as NumPy arrays do, without the fingerprints."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(_bytes(a) == _bytes(b) for a, b in pairs)


def _bytes(leaf):
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()
