"""CLIP's text encoder (Radford et al. 2021), with the names of its checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mre_jax.errors import ConfigError
from mre_jax.models.clip_encoder import Encoder, EncoderConfig, norm, projection
from mre_jax.models.layers import Compute, embedding

# Configurations older than 2023 carry this id whatever the tokenizer's end token is; it stands
# for pooling at the highest id of a text, which is where CLIP's vocabulary has its end token.
_POOL_AT_HIGHEST_ID = 2


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig(EncoderConfig):
    """Sizes of the text encoder; the defaults are Stable Diffusion 1.5's (ViT-L/14).

    Attributes:
        max_position_embeddings: tokens that fit, the start and end token included.
        eos_token_id: the token at which a text is pooled; 2 pools at the highest id instead.
    """

    model_type: ClassVar[str] = "clip_text_model"
    transformers_defaults: ClassVar[Mapping[str, Any]] = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "projection_dim": 512,
        "num_attention_heads": 8,
        "eos_token_id": 49407,
    }

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = _POOL_AT_HIGHEST_ID

    @classmethod
    def vit_b_32(cls) -> "CLIPTextConfig":
        return cls(
            hidden_size=512, intermediate_size=2048, projection_dim=512, num_attention_heads=8
        )

    @classmethod
    def vit_b_16(cls) -> "CLIPTextConfig":
        """The same text tower as that of ViT-B/32."""
        return cls.vit_b_32()

    @classmethod
    def vit_l_14(cls) -> "CLIPTextConfig":
        return cls()


class CLIPTextOutput(NamedTuple):
    """What a text encoder says of t tokens.

    Attributes:
        last_hidden_state: after the final LayerNorm, one state per token.
        pooler_output: the state at the end-of-text token.
        text_embeds: its projection; None for a model without one.
    """

    last_hidden_state: Float[Array, "b t d"]
    pooler_output: Float[Array, "b d"]
    text_embeds: Float[Array, "b e"] | None = None


class TextEmbeddings(nnx.Module):
    """A learned vector for each token id plus one for each position."""

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, positions = config.hidden_size, config.max_position_embeddings
        self.token_embedding = embedding(config.vocab_size, width, compute=compute, rngs=rngs)
        self.position_embedding = embedding(positions, width, compute=compute, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        positions = self.position_embedding(jnp.arange(input_ids.shape[1]))
        return self.token_embedding(input_ids) + positions


class TextTransformer(nnx.Module):
    """What the checkpoints call `text_model`."""

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = TextEmbeddings(config, compute=compute, rngs=rngs)
        self.encoder = Encoder(config, causal=True, compute=compute, rngs=rngs)
        self.final_layer_norm = norm(config, compute=compute, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> CLIPTextOutput:
        longest = self.config.max_position_embeddings
        if input_ids.shape[1] > longest:
            raise ConfigError(
                f"a text of {input_ids.shape[1]} tokens is too long for this encoder; "
                f"cut it to {longest}, max_position_embeddings"
            )
        states = self.final_layer_norm(self.encoder(self.embeddings(input_ids)))
        end = self._end_of_text(input_ids)
        pooled = jnp.take_along_axis(states, end[:, None, None], axis=1)[:, 0]
        return CLIPTextOutput(states, pooled)

    def _end_of_text(self, input_ids: Int[Array, "b t"]) -> Int[Array, " b"]:
        if self.config.eos_token_id == _POOL_AT_HIGHEST_ID:
            return jnp.argmax(input_ids, axis=1)
        return jnp.argmax(input_ids == self.config.eos_token_id, axis=1)


class CLIPTextModel(nnx.Module):
    """The text encoder of Stable Diffusion: token ids to states, in `compute.dtype`.

    Raises:
        ConfigError: for texts longer than `config.max_position_embeddings`.

    Example:
        >>> config = CLIPTextConfig(vocab_size=99, hidden_size=24, num_hidden_layers=1)
        >>> encoder = nnx.eval_shape(
        ...     lambda: CLIPTextModel(config, compute=Compute(), rngs=nnx.Rngs(0))
        ... )
        >>> ids = jnp.array([[97, 5, 98]])
        >>> output = nnx.eval_shape(lambda encoder: encoder(ids), encoder)
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        ((1, 3, 24), (1, 24))
    """

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.text_model = TextTransformer(config, compute=compute, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> CLIPTextOutput:
        return self.text_model(input_ids)


class CLIPTextModelWithProjection(CLIPTextModel):
    """The text encoder with its map to the space shared with images."""

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        super().__init__(config, compute=compute, rngs=rngs)
        self.text_projection = projection(config, config.projection_dim, compute=compute, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> CLIPTextOutput:
        output = self.text_model(input_ids)
        return output._replace(text_embeds=self.text_projection(output.pooler_output))
