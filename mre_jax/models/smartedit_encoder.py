"""SmartEdit's condition of an edit: picture and instruction to text states and image features."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from mre_jax.errors import ConfigError
from mre_jax.models.bim import BIM
from mre_jax.models.clip_vision import CLIPPatchEncoder
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.projector import Projector
from mre_jax.models.qformer import QFormer
from mre_jax.models.splice import image_token_states, splice_image

_CHANGE = 0.5


class EditFeatures(NamedTuple):
    """What the UNet is conditioned on, float32 where the networks compute so.

    Attributes:
        text_states: f' = f + 0.5 * change, in the place of a prompt's states.
        image_features: v' at the patches' grid; `mre_jax.models.bim.resized` brings it to that of
            latents.
    """

    text_states: Float[Array, "b t d"]
    image_features: Float[Array, "b h w c"]


class ReplyStates(NamedTuple):
    """What the language model gives of a batch.

    Attributes:
        states: of every token, after the final norm.
        image_tokens: those at which the s image tokens of the reply are the input, float32.
    """

    states: Float[Array, "b t d"]
    image_tokens: Float[Array, "b s d"]


class SmartEditEncoder(nnx.Module):
    """All of SmartEdit that comes before its UNet (Huang et al. 2024, section 3).

    `features` is the whole way for a prompt whose reply is given. A training or a sampler that
    needs the language model's own states takes the steps one by one: `patches`, `embeddings`,
    `reply`, `condition`.

    Args:
        llm: the language model with its adapters; only its `model` is run here.
        vision: CLIP without its last layer.
        mm_projector: patches to the language model's width.
        qformer: the states of the reply's image tokens to text states.
        bim: text states and patches to the condition.

    Raises:
        ConfigError: if two parts disagree on a width.
    """

    def __init__(
        self,
        llm: LlamaForCausalLM,
        vision: CLIPPatchEncoder,
        mm_projector: Projector,
        qformer: QFormer,
        bim: BIM,
    ):
        width, patch = llm.config.hidden_size, vision.config.hidden_size
        states = qformer.config.hidden_size
        for (name, given), (other, wanted) in (
            (("mm_projector.hidden_size", mm_projector.config.hidden_size), ("llm", width)),
            (("qformer.encoder_width", qformer.config.encoder_width), ("llm", width)),
            (
                ("mm_projector.mm_hidden_size", mm_projector.config.mm_hidden_size),
                ("vision", patch),
            ),
            (("bim.embedding_dim", bim.config.embedding_dim), ("vision", patch)),
            (("bim.text_width", bim.config.text_width), ("qformer", states)),
        ):
            if given != wanted:
                raise ConfigError(
                    f"{name} {given} is not the width {wanted} of the {other}; "
                    "take all parts from one release"
                )
        self.llm, self.vision, self.mm_projector = llm, vision, mm_projector
        self.qformer, self.bim = qformer, bim

    def features(
        self,
        input_ids: Int[Array, "b n"],
        image_start: Int[Array, " b"],
        state_positions: Int[Array, "b s"],
        pixel_values: Float[Array, "b H W c"],
    ) -> EditFeatures:
        """The condition of prompts with their replies, as `mre_jax.smartedit.prompt` writes them.

        Args:
            input_ids: with padding's ids where the patches go, and on the right.
            image_start: the position of the first patch.
            state_positions: of the reply's image tokens.
            pixel_values: the pictures as CLIP wants them: 224x224, normalised.
        """
        patches = self.patches(pixel_values)
        reply = self.reply(self.embeddings(input_ids, image_start, patches), state_positions)
        return self.condition(reply.image_tokens, patches)

    def patches(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b n d"]:
        """v: CLIP's patches, row by row."""
        return self.vision(pixel_values)

    def embeddings(
        self,
        input_ids: Int[Array, "b t"],
        image_start: Int[Array, " b"],
        patches: Float[Array, "b n d"],
    ) -> Float[Array, "b t e"]:
        """The prompts' embeddings with the projected patches in their places."""
        return splice_image(
            self.llm.model.embed_tokens(input_ids), self.mm_projector(patches), image_start
        )

    def reply(
        self,
        embeddings: Float[Array, "b t d"],
        state_positions: Int[Array, "b s"],
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> ReplyStates:
        """One pass of the language model over prompt and reply."""
        states = self.llm.model(embeddings, dropout_keys)
        return ReplyStates(states, image_token_states(states, state_positions))

    def condition(
        self,
        image_tokens: Float[Array, "b s d"],
        patches: Float[Array, "b n e"],
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> EditFeatures:
        """The condition from the image tokens' states, given or sampled, and the patches."""
        text = self.qformer(image_tokens, None, dropout_keys)
        change, image_features = self.bim(text, patches)
        return EditFeatures(text + jnp.asarray(_CHANGE, text.dtype) * change, image_features)
