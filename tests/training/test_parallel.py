"""Meshes and layouts: what goes where, and what does not fit."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mre_jax.errors import ConfigError
from mre_jax.training.config import (
    DataConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from mre_jax.training.parallel import Layout, arranged, check_batch, make_mesh


def leaf(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def run_of(batch_size, accumulation):
    data, optimizer = DataConfig(("set",), batch_size), OptimizerConfig(accumulation=accumulation)
    return TrainConfig("run", 1, ModelConfig("model"), data, optimizer=optimizer)


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


@dataclasses.dataclass(frozen=True)
class Chip:
    """A TPU's device, as much of it as an arrangement looks at."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    slice_index: int = 0
    core_on_chip: int = 0
    platform: str = "tpu"
    device_kind: str = "TPU v5 lite"


def pod(width, height, slices=1):
    """Slices of `width` x `height` chips in an order that follows no wire; 2 x 2 are a host's."""
    chips = []
    for number in range(slices):
        for x, y in itertools.product(range(width), range(height)):
            host = (x // 2) * (height // 2) + y // 2 + number * width * height // 4
            chips.append(Chip(len(chips), host, (x, y, 0), number))
    return [chips[i] for i in np.random.default_rng(0).permutation(len(chips))]


def distance(one, two):
    return sum(abs(a - b) for a, b in zip(one.coords, two.coords, strict=True))


@pytest.mark.parametrize("slices", [1, 2])
@pytest.mark.parametrize("fsdp", [1, 2, 4, 8, 16])
def test_every_process_reads_its_contiguous_part_of_a_batch(fsdp, slices):
    """And slices, whose wires are slow, lie along the first axis."""
    chips = pod(4, 4, slices)
    found = arranged(chips, len(chips) // fsdp, fsdp)
    assert found.shape == (len(chips) // fsdp, fsdp)
    assert set(found.flat) == set(chips)
    processes = [chip.process_index for chip in found.flat]
    assert processes == sorted(processes)
    assert all(len({chip.slice_index for chip in row}) == 1 for row in found)


@pytest.mark.parametrize("fsdp", [2, 4])
def test_parameters_are_split_over_neighbours(fsdp):
    for row in arranged(pod(4, 4), 16 // fsdp, fsdp):
        assert max(distance(one, two) for one, two in itertools.pairwise(row)) <= fsdp // 2
        assert len({chip.process_index for chip in row}) == 1


def test_the_devices_of_one_process_follow_the_torus():
    chips = [dataclasses.replace(chip, process_index=0) for chip in pod(4, 4)]
    rows = arranged(chips, 4, 4)
    assert all(distance(a, b) == 1 for row in rows for a, b in itertools.pairwise(row))


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
        (16, 1, 3, "data.batch_size=16 does not divide over 3 hosts"),
    ],
)
def test_a_batch_that_does_not_divide_is_refused(batch, accumulation, hosts, message):
    with pytest.raises(ConfigError, match=message):
        check_batch(run_of(batch, accumulation), make_mesh(MeshConfig()), hosts)


def test_a_batch_that_divides_is_not():
    check_batch(run_of(32, 2), make_mesh(MeshConfig(fsdp=4)), 2)
