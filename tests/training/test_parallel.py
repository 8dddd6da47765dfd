"""Meshes and layouts: what goes where, and what does not fit."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from mre_jax.errors import ConfigError
from mre_jax.training.config import MeshConfig
from mre_jax.training.parallel import Layout, check_batch, make_mesh


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def layout(**mesh):
    config = MeshConfig(**mesh)
    return Layout.of(config, make_mesh(config))


@pytest.mark.parametrize(
    ("mesh", "shape"),
    [({}, (8, 1)), ({"fsdp": 2}, (4, 2)), ({"data": 2, "fsdp": 4}, (2, 4)), ({"fsdp": 8}, (1, 8))],
)
def test_a_mesh_takes_all_devices(mesh, shape):
    made = make_mesh(MeshConfig(**mesh))
    assert (made.shape["data"], made.shape["fsdp"]) == shape


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        ({"fsdp": 3}, "mesh.fsdp=3 does not divide the 8 devices"),
        ({"data": 4}, "mesh.data=4 x mesh.fsdp=1 is not the 8 devices"),
        ({"data": 16}, "mesh.data=-1 takes all"),
    ],
)
def test_a_mesh_that_does_not_fit_is_refused(mesh, message):
    with pytest.raises(ConfigError, match=message):
        make_mesh(MeshConfig(**mesh))


def test_the_longest_dimension_that_divides_is_split():
    both = layout(fsdp=2)
    assert both.storage(leaf(3, 3, 16, 32)).spec == PartitionSpec(None, None, None, both.split)
    assert both.storage(leaf(64, 16)).spec == PartitionSpec(both.split)
    assert both.storage(leaf(24, 30)).spec == PartitionSpec(both.split)
    assert both.compute(leaf(24, 30)).spec == PartitionSpec(None, ("fsdp",))


@pytest.mark.parametrize("shape", [(), (64,), (7, 9), (3, 3, 4, 6)])
def test_vectors_and_what_does_not_divide_are_copied(shape):
    assert layout(fsdp=2).storage(leaf(*shape)).is_fully_replicated


def test_without_sharding_every_device_has_all():
    assert layout(shard_optimizer=False).storage(leaf(64, 64)).is_fully_replicated
    assert layout().compute(leaf(64, 64)).is_fully_replicated
    assert not layout().storage(leaf(64, 64)).is_fully_replicated


@pytest.mark.parametrize(
    ("batch", "accumulation", "hosts", "message"),
    [
        (12, 1, 1, "data.batch_size=12 does not divide over 8 devices; 8 would"),
        (4, 1, 1, "data.batch_size=4 does not divide over 8 devices; 8 would"),
        (24, 2, 1, "over 8 devices x 2 accumulated parts; 16 would"),
        (16, 3, 1, "optimizer.accumulation=3 does not divide data.batch_size=16"),
        (16, 1, 3, "data.batch_size=16 does not divide over 3 hosts"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch, accumulation, hosts, message):
    with pytest.raises(ConfigError, match=message):
        check_batch(batch, accumulation, make_mesh(MeshConfig()), hosts)


def test_a_batch_that_divides_is_not():
    check_batch(32, 2, make_mesh(MeshConfig(fsdp=4)), 2)
