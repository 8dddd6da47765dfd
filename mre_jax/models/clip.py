"""A full CLIP (Radford et al. 2021): both encoders and their maps to one space."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mre_jax.models.clip_encoder import projection
from mre_jax.models.clip_text import CLIPTextConfig, TextTransformer
from mre_jax.models.clip_vision import CLIPVisionConfig, VisionTransformer
from mre_jax.models.config_dict import check_model_type
from mre_jax.models.layers import Compute


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
        check_model_type(mapping, "clip")
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


class CLIPModel(nnx.Module):
    """Both encoders of a full CLIP checkpoint; the features are not normalised to length 1."""

    def __init__(self, config: CLIPConfig, *, compute: Compute, rngs: nnx.Rngs):
        text, vision, width = config.text_config, config.vision_config, config.projection_dim
        self.config = config
        self.text_model = TextTransformer(text, compute=compute, rngs=rngs)
        self.vision_model = VisionTransformer(vision, compute=compute, rngs=rngs)
        self.text_projection = projection(text, width, compute=compute, rngs=rngs)
        self.visual_projection = projection(vision, width, compute=compute, rngs=rngs)
        # The log of 1 / 0.07, the temperature at which CLIP's training starts.
        self.logit_scale = nnx.Param(jnp.log(jnp.float32(1 / 0.07)))

    def get_text_features(self, input_ids: Int[Array, "b t"]) -> Float[Array, "b e"]:
        return self.text_projection(self.text_model(input_ids).pooler_output)

    def get_image_features(self, pixel_values: Float[Array, "b H W c"]) -> Float[Array, "b e"]:
        return self.visual_projection(self.vision_model(pixel_values).pooler_output)
