"""The vision transformer of DINO (Caron et al. 2021), with the names of its released file."""

import dataclasses
import math

import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.errors import ConfigError, DataError
from mre_jax.models.attention import attention
from mre_jax.models.clip_encoder import MLP
from mre_jax.models.layers import Compute, conv, layer_norm, linear
from mre_jax.weights.files.source import TensorSource

_EPSILON = 1e-6
_HEAD_WIDTH = 64


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """The defaults are ViT-S/16's.

    Attributes:
        image_size: height and width of the input in pixels.
    """

    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    image_size: int = 224
    patch_size: int = 16

    @classmethod
    def of(cls, source: TensorSource) -> "ViTConfig":
        """The configuration that fits a file's tensors, with heads of width 64 as DINO's are.

        Raises:
            DataError: when the tensors are not those of such a network.
        """
        wanted = ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
        for name in wanted:
            if name not in source.tensors:
                raise DataError(f"{source.origin} lacks {name}; give DINO's ViT-S/16 backbone")
        positions, patches, inner = (source.tensors[name].shape for name in wanted)
        patch = patches[-1]
        return cls(
            hidden_size=patches[0],
            intermediate_size=inner[0],
            num_hidden_layers=len({n.split(".")[1] for n in source.tensors if "blocks." in n}),
            num_attention_heads=max(1, patches[0] // _HEAD_WIDTH),
            image_size=math.isqrt(positions[1] - 1) * patch,
            patch_size=patch,
        )

    @property
    def num_positions(self) -> int:
        """Patches and the class token."""
        return (self.image_size // self.patch_size) ** 2 + 1


class PatchEmbed(nnx.Module):
    """A linear map of each patch."""

    def __init__(self, config: ViTConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, patch = config.hidden_size, config.patch_size
        self.proj = conv(3, width, patch, patch, 0, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b H W 3"]) -> Float[Array, "b n d"]:
        return rearrange(self.proj(x), "b h w d -> b (h w) d")


class Attention(nnx.Module):
    """Multi-head self-attention whose queries, keys and values are one projection."""

    def __init__(self, config: ViTConfig, *, compute: Compute, rngs: nnx.Rngs):
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.compute = compute
        self.qkv = linear(width, 3 * width, compute=compute, rngs=rngs)
        self.proj = linear(width, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        query, key, value = rearrange(self.qkv(x), "b n (m k d) -> m b n k d", m=3, k=self.heads)
        out = attention(query, key, value, implementation=self.compute.attention)
        return self.proj(rearrange(out, "b n k d -> b n (k d)"))


class Block(nnx.Module):
    """Pre-norm self-attention and MLP, each with a residual."""

    def __init__(self, config: ViTConfig, *, compute: Compute, rngs: nnx.Rngs):
        width = config.hidden_size
        self.norm1 = layer_norm(width, epsilon=_EPSILON, compute=compute, rngs=rngs)
        self.attn = Attention(config, compute=compute, rngs=rngs)
        self.norm2 = layer_norm(width, epsilon=_EPSILON, compute=compute, rngs=rngs)
        self.mlp = MLP(width, config.intermediate_size, "gelu", compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nnx.Module):
    """Normalised pixels to one state for each patch, the class token first.

    Raises:
        ConfigError: for pictures of another size than `config.image_size`.
    """

    def __init__(self, config: ViTConfig, *, compute: Compute, rngs: nnx.Rngs):
        width = config.hidden_size
        self.config = config
        self.cls_token = nnx.Param(jnp.zeros((1, 1, width)))
        self.pos_embed = nnx.Param(jnp.zeros((1, config.num_positions, width)))
        self.patch_embed = PatchEmbed(config, compute=compute, rngs=rngs)
        self.blocks = nnx.List(
            [Block(config, compute=compute, rngs=rngs) for _ in range(config.num_hidden_layers)]
        )
        self.norm = layer_norm(width, epsilon=_EPSILON, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b H W 3"]) -> Float[Array, "b n d"]:
        side = self.config.image_size
        if x.shape[1:3] != (side, side):
            raise ConfigError(
                f"a picture of {x.shape[1]}x{x.shape[2]} pixels does not fit this network; "
                f"resize it to {side}x{side}, image_size"
            )
        first = repeat(self.cls_token[...], "1 1 d -> b 1 d", b=x.shape[0])
        x = jnp.concatenate([first, self.patch_embed(x)], axis=1) + self.pos_embed[...]
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
