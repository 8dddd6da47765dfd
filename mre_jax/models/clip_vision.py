"""CLIP's image encoder (Radford et al. 2021), with the names of its checkpoints."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float, Float32, UInt8

from mre_jax.errors import ConfigError
from mre_jax.models.clip_encoder import Encoder, EncoderConfig, norm, projection
from mre_jax.models.layers import Compute, conv, embedding

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP was trained on, in [0, 1]; its image encoders take (x - mean) / std."""

_VIT_B_32: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
}


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig(EncoderConfig):
    """Sizes of the image encoder; the defaults are ViT-L/14's.

    Attributes:
        image_size: height and width of the input in pixels.
    """

    model_type: ClassVar[str] = "clip_vision_model"
    transformers_defaults: ClassVar[Mapping[str, Any]] = _VIT_B_32

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 14

    @property
    def num_positions(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @classmethod
    def vit_b_32(cls) -> "CLIPVisionConfig":
        return cls(**_VIT_B_32)

    @classmethod
    def vit_b_16(cls) -> "CLIPVisionConfig":
        return dataclasses.replace(cls.vit_b_32(), patch_size=16)

    @classmethod
    def vit_l_14(cls) -> "CLIPVisionConfig":
        return cls()


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


class VisionStates(nnx.Module):
    """What the checkpoints call `vision_model`, up to the states of its last layer.

    The first norm has the checkpoints' spelling.
    """

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.compute = compute
        self.embeddings = VisionEmbeddings(config, compute=compute, rngs=rngs)
        self.pre_layrnorm = norm(config, compute=compute, rngs=rngs)
        self.encoder = Encoder(config, causal=False, compute=compute, rngs=rngs)

    def states(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b n d"]:
        """One state per token, the class token's first."""
        side = self.config.image_size
        if pixel_values.shape[1:3] != (side, side):
            raise ConfigError(
                f"an image of {pixel_values.shape[1]}x{pixel_values.shape[2]} pixels does not fit "
                f"this encoder; resize it to {side}x{side}, image_size"
            )
        x = self.embeddings(pixel_values.astype(self.compute.dtype))
        return self.encoder(self.pre_layrnorm(x))


class VisionTransformer(VisionStates):
    """What the checkpoints call `vision_model`, whole."""

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        super().__init__(config, compute=compute, rngs=rngs)
        self.post_layernorm = norm(config, compute=compute, rngs=rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> CLIPVisionOutput:
        states = self.states(pixel_values)
        return CLIPVisionOutput(states, self.post_layernorm(states[:, 0]))


class CLIPVisionModel(nnx.Module):
    """The image encoder: normalised pixels (CLIP's mean and deviation) to states.

    Raises:
        ConfigError: for images of another size than `config.image_size`.

    Example:
        >>> config = CLIPVisionConfig(hidden_size=32, num_hidden_layers=1, image_size=28)
        >>> encoder = nnx.eval_shape(
        ...     lambda: CLIPVisionModel(config, compute=Compute(), rngs=nnx.Rngs(0))
        ... )
        >>> pixels = jnp.zeros((1, 28, 28, 3))
        >>> nnx.eval_shape(lambda encoder: encoder(pixels), encoder).last_hidden_state.shape
        (1, 5, 32)
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
        self.visual_projection = projection(
            config, config.projection_dim, compute=compute, rngs=rngs
        )

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> CLIPVisionOutput:
        output = self.vision_model(pixel_values)
        return output._replace(image_embeds=self.visual_projection(output.pooler_output))


class CLIPPatchEncoder(nnx.Module):
    """The image encoder as LLaVA's language model sees through it (Liu et al. 2023).

    It gives the states of the layer before the last, without the class token's and not normalised.
    The last layer, the norm after it and the projection, which a released file also holds, are not
    built: `config.num_hidden_layers` counts the last layer all the same.

    Raises:
        ConfigError: for images of another size than `config.image_size`, or fewer than 2 layers.

    Example:
        >>> config = CLIPVisionConfig(hidden_size=32, num_hidden_layers=2, image_size=28)
        >>> encoder = nnx.eval_shape(
        ...     lambda: CLIPPatchEncoder(config, compute=Compute(), rngs=nnx.Rngs(0))
        ... )
        >>> pixels = jnp.zeros((1, 28, 28, 3))
        >>> nnx.eval_shape(lambda encoder: encoder(pixels), encoder).shape
        (1, 4, 32)
    """

    def __init__(self, config: CLIPVisionConfig, *, compute: Compute, rngs: nnx.Rngs):
        layers = config.num_hidden_layers
        if layers < 2:
            raise ConfigError(
                f"num_hidden_layers {layers} has no layer before the last; it must be 2 or more"
            )
        self.config = config
        seen = dataclasses.replace(config, num_hidden_layers=layers - 1)
        self.vision_model = VisionStates(seen, compute=compute, rngs=rngs)

    def __call__(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b n d"]:
        """n patches, row by row, of normalised pixels (CLIP's mean and deviation)."""
        return self.vision_model.states(pixel_values)[:, 1:]


def normalised(pixels: UInt8[Array, "*b 3"]) -> Float32[Array, "*b 3"]:
    """Pictures as CLIP's image encoders take them.

    Example:
        >>> [round(x, 3) for x in normalised(jnp.full(3, 255, jnp.uint8)).tolist()]
        [1.93, 2.075, 2.146]
    """
    mean, std = jnp.array(CLIP_MEAN, jnp.float32), jnp.array(CLIP_STD, jnp.float32)
    return (pixels.astype(jnp.float32) / 255 - mean) / std
