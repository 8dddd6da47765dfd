"""Copies that have drifted apart stop a run, and are named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mre_jax.errors import DataError
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.checkpoints.replicas import compare_replicas
from tests.training.figures import Figures
from tests.training.states import make_mesh, make_state


def drifted(leaf: jax.Array, device: int) -> jax.Array:
    """The leaf with one number of one device's copy changed by one unit in the last place."""
    parts = []
    for shard in leaf.addressable_shards:
        data = np.array(shard.data)
        if shard.device.id == device:
            bits = data.reshape(-1).view({2: np.uint16, 4: np.uint32}[data.dtype.itemsize])
            bits[bits.size // 2] += 1
        parts.append(jax.device_put(data, shard.device))
    return jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, parts)


def test_equal_copies_pass():
    compare_replicas(make_state(0, make_mesh(8)), step=3)


def test_one_ulp_on_any_device_and_leaf_is_found_and_named():
    figures = Figures("R11")
    state = make_state(0, make_mesh(8))
    cases = [(name, device) for name in state["params"] for device in range(jax.device_count())]
    for name, device in cases:
        params = {**state["params"], name: drifted(state["params"][name], device)}
        with pytest.raises(DataError, match=rf"params/{name} differ; suspect device {device} \("):
            compare_replicas({**state, "params": params}, step=3)
    figures.report(f"drift of one ulp on one of 8 devices: detected {len(cases)}/{len(cases)}")


def test_copies_of_sharded_parts_are_compared_part_by_part():
    mesh = make_mesh(8, fsdp=2)
    sharding = NamedSharding(mesh, PartitionSpec(None, "fsdp"))
    leaf = jax.device_put(jnp.arange(32.0).reshape(4, 8), sharding)
    compare_replicas({"x": leaf}, step=0)
    with pytest.raises(DataError, match="suspect device 5 "):
        compare_replicas({"x": drifted(leaf, 5)}, step=0)


def test_two_that_disagree_with_the_rest_and_all_leaves_are_counted():
    state = make_state(0, make_mesh(8))
    params = {name: drifted(drifted(x, 2), 6) for name, x in state["params"].items()}
    with pytest.raises(
        DataError, match=r"and 2 more leaves\) differ; suspect devices 2 .*, 6 \(process 0\): "
    ):
        compare_replicas({"params": params}, step=0)


def test_one_against_one_suspects_both():
    leaf = make_state(0, make_mesh(2))["params"]["conv_in.bias"]
    with pytest.raises(DataError, match=r"suspect devices 0 \(process 0\), 1 \(process 0\)"):
        compare_replicas(drifted(leaf, 1), step=0)


def test_a_drifted_state_is_not_saved(tmp_path):
    state = make_state(0, make_mesh(8))
    name = "conv_in.bias"
    state["params"][name] = drifted(state["params"][name], 1)
    checkpoints = Checkpoints(tmp_path, every=1, keep=2)
    with pytest.raises(DataError, match=f"params/{name}"):
        checkpoints.save(1, state, {})
    checkpoints.close()
    assert checkpoints.committed() == []
