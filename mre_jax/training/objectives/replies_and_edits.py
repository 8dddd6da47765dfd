"""SmartEdit's stages 2a and 2b: a reply is predicted, and an edit made of its image tokens.

The language model reads picture, instruction and reply; the states of the reply's image tokens
become the UNet's text states and features, through which the error of the UNet's prediction reaches
every network that is trained (Huang et al. 2024, section 3). Stage 2a is 2b with a BIM whose heads
are 0 and stay so: then the text states are the QFormer's, and the features 0.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Key, UInt8

from mre_jax.data.batches.batch import Batch
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.bim import resized
from mre_jax.models.clip_vision import normalised
from mre_jax.models.dropout import folded
from mre_jax.models.smartedit_encoder import EditFeatures, ReplyStates
from mre_jax.models.unet import UNet
from mre_jax.smartedit.losses import predicted_tokens, token_losses
from mre_jax.training import losses
from mre_jax.training.config import LossConfig
from mre_jax.training.inputs import (
    Draw,
    Encoders,
    Frozen,
    Inputs,
    OnDevice,
    example_keys,
    make_inputs,
    where_example,
)
from mre_jax.training.objectives.objective import Measured
from mre_jax.training.state import Parameters
from mre_jax.training.trained import TrainedNetworks


class PromptedInputs(NamedTuple):
    """What a reply and an edit are computed from.

    Attributes:
        edit: of the UNet, but for text states.
        prompts: of the language model.
        clip_pixels: of the vision tower.
        drop_text: which examples lose the instruction, for the UNet alone.
        token_weight: see `Batch`.
        keys: one per example, for dropout; None drops nothing.
    """

    edit: Inputs
    prompts: OnDevice
    clip_pixels: UInt8[Array, "b s s 3"]
    drop_text: Bool[Array, " b"]
    token_weight: Float32[Array, " b"]
    keys: Key[Array, " b"] | None


@dataclasses.dataclass(frozen=True, eq=False)
class RepliesAndEdits:
    """The mean error of the predicted tokens, and that of the edits; attributes as `Denoising`.

    The language model's loss is the mean over the predicted tokens of the global batch, in whatever
    parts it is computed. An example whose instruction was too long, or that is no edit, counts 0 in
    the other, and stays in its mean.

    Attributes:
        training: whether the networks drop out.
    """

    networks: TrainedNetworks
    encoders: Encoders
    schedule: NoiseSchedule
    settings: LossConfig
    with_reward: bool
    training: bool = True

    def whole(self, batch: Batch) -> Batch:
        """The batch with the weight of its predicted tokens."""
        return with_token_weight(batch)

    def prepare(self, batch: Batch, frozen: Frozen) -> PromptedInputs:
        """Latents, noise and rewards, and what the language model reads."""
        assert batch.prompts is not None and batch.clip_pixels is not None  # noqa: S101
        edit = make_inputs(
            batch,
            frozen,
            self.encoders,
            self.schedule,
            self.settings,
            with_reward=self.with_reward,
        )
        return PromptedInputs(
            edit,
            jax.tree.map(jnp.asarray, batch.prompts),
            jnp.asarray(batch.clip_pixels),
            jnp.asarray(batch.drop_text),
            jnp.asarray(batch.token_weight),
            example_keys(batch) if self.training else None,
        )

    def loss(
        self, params: Parameters, inputs: PromptedInputs, frozen: Frozen
    ) -> tuple[Float32[Array, ""], Measured]:
        """The sum of both losses, each of which is also a part."""
        measured = self.measure(params, inputs, frozen)
        value = measured.parts["diffusion_loss"]
        if measured.language is not None:
            factor = jnp.float32(self.settings.language_weight)
            value = value + factor * measured.parts["language_loss"]
        return value, measured

    def measure(self, params: Parameters, inputs: PromptedInputs, frozen: Frozen) -> Measured:
        """The error of each edit, and the means of both losses."""
        features, language = self._reply(params, inputs, frozen)
        errors = self._errors(params, inputs, features, frozen)
        is_edit = jnp.asarray(inputs.prompts.is_editing_task)
        # Not a product: what is no edit may have an error that is not finite.
        errors = jnp.where(is_edit, errors, 0)
        weight = inputs.edit.weight
        parts = {"diffusion_loss": jnp.mean(errors * weight)}
        if language is not None:
            parts["language_loss"] = jnp.mean(language)
        return Measured(
            errors,
            inputs.edit.timesteps,
            weight,
            counted=is_edit,
            language=language,
            parts=parts,
        )

    def _reply(
        self, params: Parameters, inputs: PromptedInputs, frozen: Frozen
    ) -> tuple[EditFeatures, Float32[Array, " b"] | None]:
        """The UNet's condition, and what each example adds to the language model's loss, if any."""
        encoder = self.networks.encoder(params, frozen.networks)
        prompts = inputs.prompts
        patches = encoder.patches(normalised(inputs.clip_pixels))
        embeddings = encoder.embeddings(prompts.input_ids, prompts.image_start, patches)
        # What is frozen drops nothing.
        of_llm = folded(inputs.keys, Draw.ADAPTERS) if self.networks.trains("llm") else None
        reply: ReplyStates = encoder.reply(embeddings, prompts.state_positions, of_llm)
        of_qformer = folded(inputs.keys, Draw.QFORMER) if self.networks.trains("qformer") else None
        condition = encoder.condition(reply.image_tokens, patches, of_qformer)
        if self.settings.language_weight == 0:
            return condition, None
        language = token_losses(encoder.llm.logits(reply.states), prompts.labels)
        return condition, language * inputs.token_weight

    def _errors(
        self,
        params: Parameters,
        inputs: PromptedInputs,
        condition: EditFeatures,
        frozen: Frozen,
    ) -> Float32[Array, " b"]:
        unet: UNet = self.networks.module("unet", params, frozen.networks)
        edit = inputs.edit
        null = frozen.null_text.astype(condition.text_states.dtype)
        text = where_example(inputs.drop_text, null, condition.text_states)
        features = resized(condition.image_features, *edit.sample.shape[1:3])
        output = unet(edit.sample, edit.timesteps, text, edit.reward, features)
        return losses.errors(output, edit.target, self.settings.terms)


def with_token_weight(batch: Batch) -> Batch:
    """A global batch with `token_weight`: its examples over the tokens that are predicted in it."""
    assert batch.prompts is not None  # noqa: S101  the loader of such a run writes them
    counts = predicted_tokens(jnp.asarray(batch.prompts.labels))
    weight = len(counts) / jnp.maximum(jnp.sum(counts, dtype=jnp.float32), 1)
    weights: Any = jnp.broadcast_to(weight, counts.shape)
    return batch._replace(token_weight=weights)
