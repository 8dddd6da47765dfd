"""The frozen networks of every editor, VAE and text encoder, as a run loads them."""

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import jax
from jaxtyping import Array, Float

from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.vae import VAEConfig
from mre_jax.training.config import ModelConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.parallel import Layout
from mre_jax.training.pretrained import compute_of
from mre_jax.training.state import Network, Parameters, parameters_of
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.names.rule import load
from mre_jax.weights.tokens import Tokenizer

Part: TypeAlias = tuple[Network, Parameters]
"""A frozen network and its arrays, in the compute dtype, a copy on every device."""

FROZEN = ("vae", "text_encoder")


@dataclasses.dataclass(frozen=True)
class RequiredNetworks:
    """Which frozen networks a run loads; cached examples go through fewer.

    Attributes:
        vae: steps encode pictures.
        text_encoder: steps encode instructions and reward texts.
        edits: the run makes edits of its own, which takes both.
    """

    vae: bool = True
    text_encoder: bool = True
    edits: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class FrozenNetworks:
    """What `load_frozen` loads.

    Attributes:
        parts: the networks that the run asks, by name.
        encoders, arrays: of these, what a step reads.
        downscale: pixels per latent along each side.
    """

    parts: Mapping[str, Part]
    encoders: Encoders
    arrays: Frozen
    downscale: int


def load_frozen(
    model: PretrainedModel, settings: ModelConfig, layout: Layout, required: RequiredNetworks
) -> FrozenNetworks:
    """Loads the networks that a run asks, and encodes the empty prompt.

    Args:
        model: holds `FROZEN`.
    """
    vae = VAEConfig.from_dict(model.components["vae"].config)
    # The text encoder is asked for the empty prompt at least.
    parts = {"text_encoder": _load_part(model.components["text_encoder"], settings, layout)}
    null_text = _null_text(parts["text_encoder"], model.tokenizer(), layout)
    if required.vae or required.edits:
        parts["vae"] = _load_part(model.components["vae"], settings, layout)
    if not (required.text_encoder or required.edits):
        del parts["text_encoder"]
    asked = {name: part for name, part in parts.items() if getattr(required, name)}
    networks = {name: asked[name][0] if name in asked else None for name in FROZEN}
    arrays = {name: asked[name][1] if name in asked else {} for name in FROZEN}
    return FrozenNetworks(
        parts,
        Encoders(**networks, scaling_factor=vae.scaling_factor),
        Frozen(arrays["vae"], arrays["text_encoder"], null_text.astype(settings.compute_dtype)),
        vae.downscale,
    )


def _load_part(component: Component, settings: ModelConfig, layout: Layout) -> Part:
    compute = dataclasses.replace(compute_of(settings), remat=False)
    module = component.network(compute)
    loaded = load(module, component.source, dtype=compute.dtype, placement=layout.replicated)
    return Network.of(module), parameters_of(loaded)


def _null_text(text_encoder: Part, tokenizer: Tokenizer, layout: Layout) -> Float[Array, "t d"]:
    network, params = text_encoder

    @jax.jit
    def encode(params: Parameters, ids: jax.Array) -> jax.Array:
        module: CLIPTextModel = network.module(params)
        return module(ids).last_hidden_state[0]

    states: jax.Array = jax.device_put(encode(params, tokenizer([""])), layout.replicated)
    return states
