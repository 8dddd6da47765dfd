"""Bytes of a chip in a training step: what it holds, what it computes with, what it keeps."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh

from mre_jax.errors import ConfigError
from mre_jax.planning.calibration import GIB, Fit
from mre_jax.planning.hardware import Slice
from mre_jax.planning.work import Sizes, Work
from mre_jax.training.config import MeshConfig, TrainConfig
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import AXES, Layout, check_batch
from mre_jax.training.state import abstract_state

INPUTS = ("texts", "latents", "pictures")


@dataclasses.dataclass(frozen=True)
class Memory:
    """GiB of one chip. What it holds is exact, the rest an estimate.

    Attributes:
        parameters, moments, average: the state, in float32, split over the chips.
        frozen: encoders that cached examples do not need, and a reference in preference training.
        inputs: the batch.
        weights: the copy that it computes with, and the gradients.
        activations: what the backward pass keeps.
        available: what a program may use.
        examples: of the chip at once.
        most_examples: at once, that would fit.
    """

    parameters: float
    moments: float
    average: float
    frozen: float
    inputs: float
    weights: float
    activations: float
    available: float
    examples: int
    most_examples: int

    @property
    def arguments(self) -> float:
        """What a step is given."""
        return self.parameters + self.moments + self.average + self.frozen + self.inputs

    @property
    def temporary(self) -> float:
        """What it makes."""
        return self.weights + self.activations

    @property
    def needed(self) -> float:
        """Together."""
        return self.arguments + self.temporary

    @property
    def fits(self) -> bool:
        """Whether a chip has as much."""
        return self.needed <= self.available


def layout_on(where: Slice, config: MeshConfig) -> Layout:
    """The layout of a run on chips that are not here.

    Raises:
        ConfigError: if the axes of the mesh do not multiply to the chips.
    """
    data = where.chips // config.fsdp if config.data == -1 else config.data
    if data * config.fsdp != where.chips:
        raise ConfigError(
            f"mesh.data={config.data} x mesh.fsdp={config.fsdp} does not make the {where.chips} "
            f"chips of {where.name}; set mesh.data=-1, and mesh.fsdp to a divisor"
        )
    mesh: Any = AbstractMesh((data, config.fsdp), AXES)
    return Layout.of(config, mesh)


def memory_of(
    config: TrainConfig, work: Work, sizes: Sizes, where: Slice, inputs: str, fit: Fit
) -> Memory:
    """What a chip of a slice needs for a step.

    Args:
        inputs: one of `INPUTS`.

    Raises:
        ConfigError: if the mesh or the batch does not divide.
    """
    layout = layout_on(where, config.mesh)
    parts = config.optimizer.accumulation
    check_batch(config, layout.mesh, where.hosts)
    ema = config.model.ema_decay is not None
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = abstract_state(work.network.abstract, optimizer, layout, ema=ema)
    frozen = _frozen(config, work, layout, inputs)
    held = {name: _on_a_chip(state[name]) for name in ("params", "optimizer", "ema")}
    weights = fit.copy * copy_bytes(work, config, layout)
    example = input_bytes(config, sizes, inputs)
    examples = config.data.batch_size // (where.chips * parts)
    activations = kept_bytes(work) * fit.kept
    if inputs == "pictures":
        # The encoders are done before the UNet begins: the larger of the two counts.
        activations = max(activations, _picture_bytes(config, sizes))
    fixed = sum(held.values()) + frozen + weights
    room = where.chip.memory_gib * GIB - fixed
    return Memory(
        parameters=held["params"] / GIB,
        moments=held["optimizer"] / GIB,
        average=held["ema"] / GIB,
        frozen=frozen / GIB,
        inputs=example * examples * parts / GIB,
        weights=weights / GIB,
        activations=activations * examples / GIB,
        available=where.chip.memory_gib,
        examples=examples,
        most_examples=max(0, math.floor(room / (activations + example * parts))),
    )


def copy_bytes(work: Work, config: TrainConfig, layout: Layout) -> int:
    """Of a chip's copy of the weights: matrices in the compute dtype, split over `fsdp`."""
    dtype = jnp.dtype(config.model.compute_dtype)
    copies = [
        jax.ShapeDtypeStruct(
            x.shape, dtype if len(x.shape) > 1 else x.dtype, sharding=layout.compute(x)
        )
        for x in work.network.abstract.values()
    ]
    return _on_a_chip(copies)


def kept_bytes(work: Work) -> int:
    """Of an example: what is kept, and with remat what the largest block keeps for a while."""
    return work.kept + work.block


def input_bytes(config: TrainConfig, sizes: Sizes, inputs: str) -> int:
    """Of an example on its way to the chip."""
    side, tokens = config.data.resolution // sizes.vae.downscale, sizes.text.max_position_embeddings
    texts = 1 + (sizes.unet.reward is not None)
    pictures = 2 * config.data.resolution**2 * sizes.vae.in_channels
    latents = 3 * side * side * sizes.vae.latent_channels * 2
    ids, states = texts * tokens * 4, texts * tokens * sizes.text.hidden_size * 2
    return {
        "pictures": pictures + ids,
        "latents": latents + ids,
        "texts": latents + states,
    }[inputs]


def _frozen(config: TrainConfig, work: Work, layout: Layout, inputs: str) -> float:
    """Bytes of the frozen networks on a chip."""
    width = jnp.dtype(config.model.compute_dtype).itemsize
    vae, text = work.encoders
    asked = {"pictures": vae + text, "latents": text, "texts": 0}[inputs]
    if config.validation.every:  # which edits
        asked = vae + text
    reference = 0
    if config.loss.preference is not None:
        places = work.network.abstract.values()
        copies = [jax.ShapeDtypeStruct(x.shape, jnp.dtype(config.model.compute_dtype),
                                       sharding=layout.storage(x)) for x in places]  # fmt: skip
        reference = _on_a_chip(copies)
    return asked * width + reference


def _picture_bytes(config: TrainConfig, sizes: Sizes) -> int:
    """Of an example while its two pictures are encoded: some four maps of the first level."""
    width = jnp.dtype(config.model.compute_dtype).itemsize
    return 2 * 4 * config.data.resolution**2 * sizes.vae.block_out_channels[0] * width


def _on_a_chip(tree: Any) -> int:
    """Bytes of the parts of arrays with a sharding."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
