"""What the device does for a batch of edits: encode, denoise under guidance, decode.

It is one program, compiled once per shape, set of guidance branches and number of steps; scales,
rewards, seeds and texts are data. On several devices each runs it on its part of the batch with a
copy of the weights, so no device waits for another.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int32, Key, UInt8

from mre_jax.diffusion.guidance import Guidance, combine, stack_branches, tile_branches
from mre_jax.diffusion.noise import initial_latents
from mre_jax.diffusion.sampling import Plan, is_finite, sample
from mre_jax.errors import ConfigError
from mre_jax.io.devices import on_parts
from mre_jax.models.bim import resized
from mre_jax.models.clip_text import CLIPTextModel, CLIPTextOutput
from mre_jax.models.reward import RewardInputs
from mre_jax.models.unet import UNet
from mre_jax.models.vae import AutoencoderKL

HostArray = np.ndarray | Array


class Networks(NamedTuple):
    """The networks that run in the program, as modules, graph definitions or states."""

    unet: Any
    vae: Any
    text_encoder: Any

    def split(self) -> "tuple[Networks, Networks]":
        """The static halves of the modules, and their weights as pytrees."""
        graphs, states = zip(*(nnx.split(module) for module in self), strict=True)
        return Networks(*graphs), Networks(*states)


class RewardBatch(NamedTuple):
    """A reward per example, its text as token ids.

    Attributes:
        present: False edits as without a reward.
    """

    scores: Float32[HostArray, "b p"]
    text_ids: Int32[HostArray, "b t"]
    present: Bool[HostArray, " b"]


class InstructionStates(NamedTuple):
    """What an instruction encoder made of instructions and their pictures.

    Attributes:
        text_states: in the place of the text encoder's.
        image_features: for the UNet's first feature map, at a grid of their own.
    """

    text_states: Float[HostArray, "b t d"]
    image_features: Float[HostArray, "b h w c"]

    def are_finite(self) -> Bool[np.ndarray, " b"]:
        """Whether all numbers of an edit are."""
        parts = [np.asarray(part, np.float32).reshape(len(part), -1) for part in self]
        return np.asarray(np.isfinite(np.concatenate(parts, axis=1)).all(axis=1))


class Texts(NamedTuple):
    """What CLIP's text encoder says of the texts of b edits; None of those that they do not have.

    Attributes:
        prompt: None where an instruction encoder read it.
    """

    negative: CLIPTextOutput
    prompt: CLIPTextOutput | None = None
    reward: CLIPTextOutput | None = None
    low_reward: CLIPTextOutput | None = None


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "pixels",
        "prompt_ids",
        "instruction",
        "negative_ids",
        "keys",
        "guidance",
        "latents",
        "reward",
        "low_reward",
    ],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class EditBatch:
    """The inputs of b edits of one size; every leaf has the batch first.

    Attributes:
        prompt_ids: of the instruction, for CLIP's text encoder; None where an instruction encoder
            has read it.
        instruction: what that encoder made of it; None without one.
        keys: the items' keys.
        latents: standard normal noise to start from; None draws it from `keys`.
        reward: None if the UNet takes no reward.
        low_reward: what reward guidance moves away from; None without it.
    """

    pixels: UInt8[HostArray, "b H W 3"]
    prompt_ids: Int32[HostArray, "b t"] | None
    negative_ids: Int32[HostArray, "b t"]
    keys: Key[Array, " b"]
    guidance: Guidance
    instruction: InstructionStates | None = None
    latents: Float32[HostArray, "b h w c"] | None = None
    reward: RewardBatch | None = None
    low_reward: RewardBatch | None = None


class Edited(NamedTuple):
    """What b edits give.

    Attributes:
        images: pixels [b H W 3] in [0, 1], or latents [b h w c].
        finite: whether an edit's numbers were finite in each of its stages: the texts' states, the
            original's latents, the latents after every step, and, where they are decoded, the
            pixels.
        instruction: whether what an instruction encoder made before was; None without one.
    """

    images: Float32[Array, "b ..."]
    finite: Bool[Array, "b stages"]
    instruction: Bool[HostArray, " b"] | None = None


@functools.partial(jax.jit, static_argnames=("graphs", "decode", "mesh"))
def edit(
    states: Networks,
    batch: EditBatch,
    plan: Plan,
    *,
    graphs: Networks,
    decode: bool = True,
    mesh: Mesh | None = None,
) -> Edited:
    """Runs b edits.

    Args:
        states: weights of `graphs`; on a mesh, replicated.
        batch: on a mesh, of a size that its devices divide.
        plan: from `plan_sampling`.
        graphs: static halves of the networks.
        decode: False returns the latents as they are, in units of the UNet.
        mesh: devices over which the batch is split, from `batch_mesh`; None is one device.
    """
    run: Callable[..., Edited] = functools.partial(_edit, graphs=graphs, decode=decode)
    if mesh is not None:
        run = on_parts(run, mesh, whole=(0, 2))
    return run(states, batch, plan)


def _edit(
    states: Networks,
    batch: EditBatch,
    plan: Plan,
    *,
    graphs: Networks,
    decode: bool,
) -> Edited:
    networks = Networks(*map(nnx.merge, graphs, states))
    unet: UNet = networks.unet
    vae: AutoencoderKL = networks.vae
    text_encoder: CLIPTextModel = networks.text_encoder

    original = vae.encode(jnp.asarray(batch.pixels, jnp.float32) / 127.5 - 1).mode()
    texts = _encode_texts(text_encoder, batch)
    text, image_features = _instruction(batch, texts, original.shape[1:3])
    null_text = texts.negative.last_hidden_state
    seen = stack_branches(
        batch.guidance,
        text=text.astype(null_text.dtype),
        null_text=null_text,
        image=original,
        high=_reward_inputs(batch.reward, texts.reward),
        low=_reward_inputs(batch.low_reward, texts.low_reward),
    )
    image_features = tile_branches(batch.guidance, image_features)
    condition = unet.condition(seen.text, seen.reward, image_features)

    def denoise(latents: Float[Array, "b h w c"], timestep: Float[Array, ""]) -> Array:
        sample_ = jnp.concatenate([tile_branches(batch.guidance, latents), seen.image], axis=-1)
        timesteps = jnp.broadcast_to(timestep, sample_.shape[:1])
        output = unet.denoise(sample_, timesteps, condition)
        return combine(output, batch.guidance.weights)

    if batch.latents is None:
        _, height, width, channels = original.shape
        noise = initial_latents(batch.keys, (height, width, channels))
    else:
        noise = jnp.asarray(batch.latents)
    latents, steps = sample(denoise, noise, plan, batch.keys)
    stages = [_are_finite(texts), is_finite(original), steps]
    if not decode:
        return Edited(latents, jnp.column_stack(stages))
    pixels = vae.decode(latents / vae.config.scaling_factor).astype(jnp.float32)
    stages.append(is_finite(pixels))  # clipping would hide infinity
    return Edited(jnp.clip(pixels / 2 + 0.5, 0, 1), jnp.column_stack(stages))


def _encode_texts(text_encoder: CLIPTextModel, batch: EditBatch) -> Texts:
    """All texts of the batch that the text encoder reads, in one pass."""
    ids = {"prompt": batch.prompt_ids, "negative": batch.negative_ids}
    rewards = {"reward": batch.reward, "low_reward": batch.low_reward}
    ids |= {name: None if made is None else made.text_ids for name, made in rewards.items()}
    given = {name: made for name, made in ids.items() if made is not None}
    stacked = jnp.stack(list(given.values()))
    encoded = text_encoder(rearrange(stacked, "n b t -> (n b) t"))
    parts = jax.tree.map(lambda x: rearrange(x, "(n b) ... -> n b ...", n=len(given)), encoded)
    return Texts(**{n: jax.tree.map(lambda x, i=i: x[i], parts) for i, n in enumerate(given)})


def _instruction(
    batch: EditBatch, texts: Texts, grid: tuple[int, ...]
) -> tuple[Float[Array, "b t d"], Float[Array, "b h w c"] | None]:
    """The instruction's states, and what the UNet adds to its first feature map of this grid."""
    if texts.prompt is not None:
        return texts.prompt.last_hidden_state, None
    if batch.instruction is None:
        raise ConfigError("EditBatch: give prompt_ids or instruction")
    text, features = map(jnp.asarray, batch.instruction)
    return text, resized(features, *grid)


def _are_finite(texts: Any) -> Bool[Array, " b"]:
    """Whether all states of all texts of an example are."""
    return functools.reduce(jnp.logical_and, map(is_finite, jax.tree.leaves(texts)))


def _reward_inputs(reward: RewardBatch | None, text: CLIPTextOutput | None) -> RewardInputs | None:
    if reward is None or text is None:
        return None
    return RewardInputs(
        scores=jnp.asarray(reward.scores),
        text_states=text.last_hidden_state,
        text_pooled=text.pooler_output,
        present=jnp.asarray(reward.present),
    )
