"""Fingerprints: the same for every layout, and another one for any changed element."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from mre_jax.training.checkpoints.fingerprint import fingerprints, measure
from tests.training.states import make_mesh, make_state, shardings

SPECS = [
    (),
    ("data",),
    ("fsdp", "data"),
    (None, ("data", "fsdp")),
    (("fsdp", "data"), None, None),
    (None, None, "fsdp"),
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_fingerprint_does_not_depend_on_the_sharding(spec):
    array = jnp.asarray(np.random.default_rng(0).standard_normal((8, 16, 2)), jnp.float32)
    placed = jax.device_put(array, NamedSharding(make_mesh(8, fsdp=2), PartitionSpec(*spec)))
    assert fingerprints({"x": placed}) == fingerprints({"x": array})
    assert fingerprints({"x": np.asarray(array)}) == fingerprints({"x": array})


def test_a_state_has_the_same_fingerprints_on_every_mesh():
    state = make_state(1, make_mesh(8))
    expected = fingerprints(state)
    for mesh in (make_mesh(8, fsdp=2), make_mesh(4), make_mesh(1)):
        assert fingerprints(jax.device_put(state, shardings(state, mesh))) == expected


def test_leaves_are_named_by_their_path():
    found = fingerprints(make_state(1, make_mesh(1)))
    assert "params/conv_in.kernel" in found
    assert "optimizer/0/mu/conv_in.kernel" in found
    assert found["params/conv_in.kernel"] != found["ema/conv_in.kernel"]


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "int8", "bool", "uint32"]
)
def test_one_changed_bit_anywhere_changes_the_fingerprint(dtype):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (3, 7)).astype(jnp.dtype(dtype))
    before = fingerprints({"x": array})
    silent = 0
    flips = 0
    for position in range(array.nbytes):
        for bit in range(1 if dtype == "bool" else 8):
            data = bytearray(array.tobytes())
            data[position] ^= 1 << bit
            changed = np.frombuffer(bytes(data), array.dtype).reshape(array.shape)
            silent += fingerprints({"x": changed}) == before
            flips += 1
    assert (silent, flips > 20) == (0, True)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 63), st.integers(0, 63))
def test_exchanged_elements_change_the_fingerprint(one, other):
    array = np.arange(64, dtype=np.float32)
    swapped = array.copy()
    swapped[[one, other]] = array[[other, one]]
    same = fingerprints({"x": array}) == fingerprints({"x": swapped})
    assert same == (one == other)


def test_random_keys_are_told_apart():
    mesh = make_mesh(8)
    keys = jax.random.split(jax.random.key(0), 8)
    split = jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data")))
    assert fingerprints(split) == fingerprints(keys)
    assert fingerprints(jax.random.key(0)) != fingerprints(jax.random.key(1))


def test_zeros_of_other_sizes_differ_and_an_empty_leaf_has_one():
    found = fingerprints({"a": jnp.zeros(3), "b": jnp.zeros(4), "empty": jnp.zeros((0, 3))})
    assert len(set(found.values())) == 3


def test_each_device_of_a_mesh_has_a_part_of_every_leaf():
    leaf = next(x for x in measure(make_state(0, make_mesh(8))) if x.path.startswith("ema"))
    assert len(leaf.parts) == 8
    assert len({index for index, _ in leaf.parts.values()}) == 8
