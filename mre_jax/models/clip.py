"""CLIP's text and image encoders (Radford et al. 2021), with the names of its checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float, Int

from mre_jax.errors import ConfigError
from mre_jax.models.attention import attention
from mre_jax.models.config_dict import check_divides, read_config, write_config
from mre_jax.models.layers import Compute, activation, conv, embedding, layer_norm, linear

# Configurations older than 2023 carry this id whatever the tokenizer's end token is; it stands
# for pooling at the highest id of a text, which is where CLIP's vocabulary has its end token.
_POOL_AT_HIGHEST_ID = 2
_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclasses.dataclass(frozen=True)
class CLIPTextConfig:
    """Transformers' names and meanings; the defaults are Stable Diffusion 1.5's (ViT-L/14).

    Attributes:
        projection_dim: width of the space shared with images; only a model with a projection
            uses it.
        eos_token_id: the token at which a text is pooled; 2 pools at the highest id instead.

    Raises:
        ConfigError: if the sizes do not fit together or the activation is not CLIP's.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    projection_dim: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = _POOL_AT_HIGHEST_ID

    def __post_init__(self) -> None:
        _check_transformer(self)

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

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "CLIPTextConfig":
        """Reads a text encoder's config.json; what it leaves out has transformers' default.

        Raises:
            ConfigError: for a configuration of another network.
        """
        _check_model_type(mapping, "clip_text_model")
        defaults = {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "projection_dim": 512,
            "num_attention_heads": 8,
            "eos_token_id": 49407,
        }
        return read_config(cls, mapping, defaults=defaults, supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for transformers and for `from_dict`."""
        return {"model_type": "clip_text_model", **write_config(self)}


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig:
    """Transformers' names and meanings; the defaults are ViT-L/14's.

    Attributes:
        image_size: height and width of the input in pixels.

    Raises:
        ConfigError: if the sizes do not fit together or the activation is not CLIP's.
    """

    hidden_size: int = 1024
    intermediate_size: int = 4096
    projection_dim: int = 768
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_transformer(self)

    @property
    def num_positions(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @classmethod
    def vit_b_32(cls) -> "CLIPVisionConfig":
        return cls(
            hidden_size=768,
            intermediate_size=3072,
            projection_dim=512,
            num_hidden_layers=12,
            num_attention_heads=12,
            patch_size=32,
        )

    @classmethod
    def vit_b_16(cls) -> "CLIPVisionConfig":
        return dataclasses.replace(cls.vit_b_32(), patch_size=16)

    @classmethod
    def vit_l_14(cls) -> "CLIPVisionConfig":
        return cls()

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "CLIPVisionConfig":
        """Reads an image encoder's config.json; what it leaves out has transformers' default.

        Raises:
            ConfigError: for a configuration of another network.
        """
        _check_model_type(mapping, "clip_vision_model")
        return read_config(cls, mapping, defaults=write_config(cls.vit_b_32()), supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for transformers and for `from_dict`."""
        return {"model_type": "clip_vision_model", **write_config(self)}


@dataclasses.dataclass(frozen=True)
class CLIPConfig:
    """Both encoders and the width of the space they share; the defaults are ViT-L/14's."""

    text_config: CLIPTextConfig = dataclasses.field(default_factory=CLIPTextConfig)
    vision_config: CLIPVisionConfig = dataclasses.field(default_factory=CLIPVisionConfig)
    projection_dim: int = 768

    @classmethod
    def vit_b_32(cls) -> "CLIPConfig":
        return cls(CLIPTextConfig.vit_b_32(), CLIPVisionConfig.vit_b_32(), 512)

    @classmethod
    def vit_b_16(cls) -> "CLIPConfig":
        return cls(CLIPTextConfig.vit_b_16(), CLIPVisionConfig.vit_b_16(), 512)

    @classmethod
    def vit_l_14(cls) -> "CLIPConfig":
        return cls()

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "CLIPConfig":
        """Reads a full CLIP's config.json; what it leaves out has transformers' default.

        Raises:
            ConfigError: for a configuration of another network.
        """
        _check_model_type(mapping, "clip")
        text, vision = mapping.get("text_config"), mapping.get("vision_config")
        return cls(
            text_config=CLIPTextConfig.from_dict(text or {}),
            vision_config=CLIPVisionConfig.from_dict(vision or {}),
            projection_dim=mapping.get("projection_dim") or 512,
        )

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for transformers and for `from_dict`."""
        return {
            "model_type": "clip",
            "text_config": self.text_config.to_dict(),
            "vision_config": self.vision_config.to_dict(),
            "projection_dim": self.projection_dim,
        }


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


class CLIPVisionOutput(NamedTuple):
    """What an image encoder says of n-1 patches and the class token, which comes first.

    Attributes:
        last_hidden_state: one state per token, not normalised.
        pooler_output: the class token's state after the last LayerNorm.
        image_embeds: its projection; None for a model without one.
    """

    last_hidden_state: Float[Array, "b n d"]
    pooler_output: Float[Array, "b d"]
    image_embeds: Float[Array, "b e"] | None = None


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, causal: bool, *, compute: Compute, rngs: nnx.Rngs):
        self.heads = heads
        self.causal = causal
        self.compute = compute
        self.q_proj = linear(width, width, compute=compute, rngs=rngs)
        self.k_proj = linear(width, width, compute=compute, rngs=rngs)
        self.v_proj = linear(width, width, compute=compute, rngs=rngs)
        self.out_proj = linear(width, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        query, key, value = (
            rearrange(project(x), "b n (k d) -> b n k d", k=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = attention(
            query, key, value, implementation=self.compute.attention, causal=self.causal
        )
        return self.out_proj(rearrange(out, "b n k d -> b n (k d)"))


class MLP(nnx.Module):
    """Two dense layers with the configuration's activation between them."""

    def __init__(
        self, config: CLIPTextConfig | CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs
    ):
        width, inner = config.hidden_size, config.intermediate_size
        self.hidden_act = config.hidden_act
        self.fc1 = linear(width, inner, compute=compute, rngs=rngs)
        self.fc2 = linear(inner, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(activation(self.hidden_act)(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Pre-norm self-attention and MLP, each with a residual."""

    def __init__(
        self,
        config: CLIPTextConfig | CLIPVisionConfig,
        causal: bool,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        width, heads = config.hidden_size, config.num_attention_heads
        self.self_attn = Attention(width, heads, causal, compute=compute, rngs=rngs)
        self.layer_norm1 = _norm(config, compute=compute, rngs=rngs)
        self.mlp = MLP(config, compute=compute, rngs=rngs)
        self.layer_norm2 = _norm(config, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers that both encoders share; only texts are `causal`."""

    def __init__(
        self,
        config: CLIPTextConfig | CLIPVisionConfig,
        causal: bool,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.layers = nnx.List(
            [
                EncoderLayer(config, causal, compute=compute, rngs=rngs)
                for _ in range(config.num_hidden_layers)
            ]
        )
        self.compute = compute

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        for layer in self.layers:
            x = jax.checkpoint(layer.__call__)(x) if self.compute.remat else layer(x)
        return x


class TextEmbeddings(nnx.Module):
    """A learned vector for each token id plus one for each position."""

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, positions = config.hidden_size, config.max_position_embeddings
        self.token_embedding = embedding(config.vocab_size, width, compute=compute, rngs=rngs)
        self.position_embedding = embedding(positions, width, compute=compute, rngs=rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        positions = self.position_embedding(jnp.arange(input_ids.shape[1]))
        return self.token_embedding(input_ids) + positions


class VisionEmbeddings(nnx.Module):
    """A class token and a linear map of each patch, with learned positions."""

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        initial = nnx.initializers.normal(width**-0.5)(rngs.params(), (width,), jnp.float32)
        self.class_embedding = nnx.Param(initial)
        self.patch_embedding = conv(
            config.num_channels,
            width,
            kernel_size=patch,
            stride=patch,
            padding=0,
            use_bias=False,
            compute=compute,
            rngs=rngs,
        )
        self.position_embedding = embedding(config.num_positions, width, compute=compute, rngs=rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b n d"]:
        patches = rearrange(self.patch_embedding(pixel_values), "b h w d -> b (h w) d")
        first = self.class_embedding[...].astype(patches.dtype)
        first = repeat(first, "d -> b 1 d", b=patches.shape[0])
        tokens = jnp.concatenate([first, patches], axis=1)
        return tokens + self.position_embedding(jnp.arange(tokens.shape[1]))


class TextTransformer(nnx.Module):
    """What the checkpoints call `text_model`."""

    def __init__(self, config: CLIPTextConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.embeddings = TextEmbeddings(config, compute=compute, rngs=rngs)
        self.encoder = Encoder(config, causal=True, compute=compute, rngs=rngs)
        self.final_layer_norm = _norm(config, compute=compute, rngs=rngs)

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


class VisionTransformer(nnx.Module):
    """What the checkpoints call `vision_model`, with their spelling of its first norm."""

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.compute = compute
        self.embeddings = VisionEmbeddings(config, compute=compute, rngs=rngs)
        self.pre_layrnorm = _norm(config, compute=compute, rngs=rngs)
        self.encoder = Encoder(config, causal=False, compute=compute, rngs=rngs)
        self.post_layernorm = _norm(config, compute=compute, rngs=rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> CLIPVisionOutput:
        side = self.config.image_size
        if pixel_values.shape[1:3] != (side, side):
            raise ConfigError(
                f"an image of {pixel_values.shape[1]}x{pixel_values.shape[2]} pixels does not fit "
                f"this encoder; resize it to {side}x{side}, image_size"
            )
        x = self.embeddings(pixel_values.astype(self.compute.dtype))
        states = self.encoder(self.pre_layrnorm(x))
        return CLIPVisionOutput(states, self.post_layernorm(states[:, 0]))


class CLIPTextModel(nnx.Module):
    """The text encoder of Stable Diffusion: token ids to states, in `compute.dtype`.

    Raises:
        ConfigError: for texts longer than `config.max_position_embeddings`.
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
        self.text_projection = _projection(config, config.projection_dim, compute, rngs)

    def __call__(self, input_ids: Int[Array, "b t"]) -> CLIPTextOutput:
        output = self.text_model(input_ids)
        return output._replace(text_embeds=self.text_projection(output.pooler_output))


class CLIPVisionModel(nnx.Module):
    """The image encoder: normalised pixels (CLIP's mean and deviation) to states.

    Raises:
        ConfigError: for images of another size than `config.image_size`.
    """

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.vision_model = VisionTransformer(config, compute=compute, rngs=rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> CLIPVisionOutput:
        return self.vision_model(pixel_values)


class CLIPVisionModelWithProjection(CLIPVisionModel):
    """The image encoder with its map to the space shared with texts."""

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        super().__init__(config, compute=compute, rngs=rngs)
        self.visual_projection = _projection(config, config.projection_dim, compute, rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> CLIPVisionOutput:
        output = self.vision_model(pixel_values)
        return output._replace(image_embeds=self.visual_projection(output.pooler_output))


class CLIPModel(nnx.Module):
    """Both encoders of a full CLIP checkpoint; the features are not normalised to length 1."""

    def __init__(self, config: CLIPConfig, *, compute: Compute, rngs: nnx.Rngs):
        text, vision, width = config.text_config, config.vision_config, config.projection_dim
        self.config = config
        self.text_model = TextTransformer(text, compute=compute, rngs=rngs)
        self.vision_model = VisionTransformer(vision, compute=compute, rngs=rngs)
        self.text_projection = _projection(text, width, compute, rngs)
        self.visual_projection = _projection(vision, width, compute, rngs)
        # The log of 1 / 0.07, the temperature at which CLIP's training starts.
        self.logit_scale = nnx.Param(jnp.log(jnp.float32(1 / 0.07)))

    def get_text_features(self, input_ids: Int[Array, "b t"]) -> Float[Array, "b e"]:
        return self.text_projection(self.text_model(input_ids).pooler_output)

    def get_image_features(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b e"]:
        return self.visual_projection(self.vision_model(pixel_values).pooler_output)


def _norm(
    config: CLIPTextConfig | CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs
) -> nnx.LayerNorm:
    return layer_norm(config.hidden_size, epsilon=config.layer_norm_eps, compute=compute, rngs=rngs)


def _projection(
    config: CLIPTextConfig | CLIPVisionConfig, width: int, compute: Compute, rngs: nnx.Rngs
) -> nnx.Linear:
    return linear(config.hidden_size, width, use_bias=False, compute=compute, rngs=rngs)


def _check_transformer(config: CLIPTextConfig | CLIPVisionConfig) -> None:
    check_divides(
        "num_attention_heads", config.num_attention_heads, "hidden_size", config.hidden_size
    )
    if config.hidden_act not in _ACTIVATIONS:
        raise ConfigError(
            f"hidden_act {config.hidden_act!r} is not supported; use {' or '.join(_ACTIVATIONS)}"
        )


def _check_model_type(mapping: Mapping[str, Any], expected: str) -> None:
    model_type = mapping.get("model_type") or expected
    if model_type != expected:
        raise ConfigError(f"model_type {model_type!r} is not supported; it must be {expected!r}")
