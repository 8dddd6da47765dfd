"""SmartEdit's stage 1: captions are replied to, and the QFormer learns the text encoder's states.

The states of the reply's image tokens become what the CLIP text encoder makes of the caption, so
that a UNet which knows that encoder's states can be conditioned on them. No picture is seen, as in
the official stage 1; or the captions are instructions, and each prompt holds the picture that is to
be edited, as the prompts of the stages that follow.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Key, UInt8

from mre_jax.data.batches.batch import Batch
from mre_jax.models.clip_text import CLIPTextModel
from mre_jax.models.clip_vision import CLIPPatchEncoder, normalised
from mre_jax.models.dropout import folded
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.projector import Projector
from mre_jax.models.qformer import QFormer
from mre_jax.models.splice import image_token_states, splice_image
from mre_jax.smartedit.losses import token_losses
from mre_jax.training.config import LossConfig
from mre_jax.training.inputs import Draw, Encoders, Frozen, OnDevice, example_keys
from mre_jax.training.objectives.objective import Measured
from mre_jax.training.objectives.replies_and_edits import with_token_weight
from mre_jax.training.state import Parameters
from mre_jax.training.trained import TrainedNetworks


class CaptionInputs(NamedTuple):
    """What a caption's loss is computed from.

    Attributes:
        prompts: of the language model.
        target: the text encoder's states of the caption.
        token_weight: see `Batch`.
        keys: one per example, for dropout; None drops nothing.
        clip_pixels: of the vision tower; None where the prompts hold no picture.
    """

    prompts: OnDevice
    target: Float[Array, "b t d"]
    token_weight: Float32[Array, " b"]
    keys: Key[Array, " b"] | None
    clip_pixels: UInt8[Array, "b s s 3"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Captions:
    """The mean error of the predicted tokens, and that of the states.

    Attributes:
        networks: language model and QFormer, and what sees the pictures.
        encoders: of the captions.
        settings: the run's.
        training: whether the networks drop out.
    """

    networks: TrainedNetworks
    encoders: Encoders
    settings: LossConfig
    training: bool = True

    def whole(self, batch: Batch) -> Batch:
        """The batch with the weight of its predicted tokens."""
        return with_token_weight(batch)

    def prepare(self, batch: Batch, frozen: Frozen) -> CaptionInputs:
        """The prompts, and the text encoder's states of the captions."""
        assert batch.prompts is not None and self.encoders.text_encoder is not None  # noqa: S101
        text_encoder: CLIPTextModel = self.encoders.text_encoder.module(frozen.text_encoder)
        return CaptionInputs(
            jax.tree.map(jnp.asarray, batch.prompts),
            text_encoder(jnp.asarray(batch.instruction)).last_hidden_state.astype(jnp.float32),
            jnp.asarray(batch.token_weight),
            example_keys(batch) if self.training else None,
            None if batch.clip_pixels is None else jnp.asarray(batch.clip_pixels),
        )

    def loss(
        self, params: Parameters, inputs: CaptionInputs, frozen: Frozen
    ) -> tuple[Float32[Array, ""], Measured]:
        """The sum of both losses, each of which is also a part."""
        measured = self.measure(params, inputs, frozen)
        parts = measured.parts
        factor = jnp.float32(self.settings.language_weight)
        return parts["alignment_loss"] + factor * parts["language_loss"], measured

    def measure(self, params: Parameters, inputs: CaptionInputs, frozen: Frozen) -> Measured:
        """The mean squared error of each caption's states, and the means of both losses."""
        llm: LlamaForCausalLM = self.networks.module("llm", params, frozen.networks)
        qformer: QFormer = self.networks.module("qformer", params, frozen.networks)
        prompts = inputs.prompts
        # What is frozen drops nothing.
        of_llm = folded(inputs.keys, Draw.ADAPTERS) if self.networks.trains("llm") else None
        embeddings = llm.model.embed_tokens(prompts.input_ids)
        if inputs.clip_pixels is not None:
            seen = self._seen(params, inputs.clip_pixels, frozen)
            embeddings = splice_image(embeddings, seen, prompts.image_start)
        states = llm.model(embeddings, of_llm)
        taken = image_token_states(states, prompts.state_positions)
        of_qformer = folded(inputs.keys, Draw.QFORMER) if self.networks.trains("qformer") else None
        text = qformer(taken, None, of_qformer).astype(jnp.float32)
        errors = jnp.mean(jnp.square(text - inputs.target), axis=(1, 2))
        language = token_losses(llm.logits(states), prompts.labels) * inputs.token_weight
        counted = jnp.asarray(prompts.is_editing_task)
        errors = jnp.where(counted, errors, 0)
        return Measured(
            errors,
            jnp.full(len(errors), -1),
            jnp.ones_like(errors),
            counted=counted,
            language=language,
            parts={"alignment_loss": jnp.mean(errors), "language_loss": jnp.mean(language)},
        )

    def _seen(
        self, params: Parameters, clip_pixels: UInt8[Array, "b s s 3"], frozen: Frozen
    ) -> Float[Array, "b n d"]:
        """The pictures' patches, as the language model reads them."""
        vision: CLIPPatchEncoder = self.networks.module("vision", params, frozen.networks)
        projector: Projector = self.networks.module("projector", params, frozen.networks)
        return projector(vision(normalised(clip_pixels)))
