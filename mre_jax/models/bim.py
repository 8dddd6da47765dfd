"""SmartEdit's bidirectional interaction module: text states and image features inform each other.

A two-way transformer (Kirillov et al. 2023, Segment Anything) between the QFormer's states f and
CLIP's patches v. Two layers that start at zero turn what comes out of it into a change of f, and
into features that the UNet adds to its first feature map (Huang et al. 2024, SmartEdit, Fig. 3).
Names are the checkpoint's.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.errors import ConfigError
from mre_jax.models.attention import attention
from mre_jax.models.config_dict import check_divides, check_model_type, read_config, write_config
from mre_jax.models.layers import Buffer, Compute, conv, layer_norm, linear


@dataclasses.dataclass(frozen=True)
class BIMConfig:
    """Sizes; the defaults are SmartEdit's, of either size of its language model.

    Attributes:
        text_width: of f, and of the UNet's cross-attention.
        embedding_dim: of v, and of the transformer.
        depth: layers of the transformer.
        attention_downsample_rate: by which attention between text and image is narrower.
        out_channels: of the features for the UNet: its first width.

    Raises:
        ConfigError: if the sizes do not fit together.

    Example:
        >>> BIMConfig.from_dict({"out_channels": 32}).embedding_dim
        1024
    """

    text_width: int = 768
    embedding_dim: int = 1024
    depth: int = 2
    num_heads: int = 8
    mlp_dim: int = 2048
    attention_downsample_rate: int = 2
    out_channels: int = 320

    def __post_init__(self) -> None:
        width, rate = self.embedding_dim, self.attention_downsample_rate
        check_divides("2", 2, "embedding_dim", width)
        check_divides("attention_downsample_rate", rate, "embedding_dim", width)
        check_divides(
            "num_heads", self.num_heads, "embedding_dim / attention_downsample_rate", width // rate
        )

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "BIMConfig":
        """Reads a config.json; what it leaves out has SmartEdit's value.

        Raises:
            ConfigError: for a configuration of another network.
        """
        check_model_type(mapping, "smartedit_bim")
        return read_config(cls, mapping, defaults={}, supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for `from_dict`."""
        return {"model_type": "smartedit_bim", **write_config(self)}


class BIMOutput(NamedTuple):
    """What the module gives; both are 0 where its two heads are.

    Attributes:
        text_change: for f, half of which is added to it.
        image_features: v' at the patches' own grid; see `resized`.
    """

    text_change: Float[Array, "b t d"]
    image_features: Float[Array, "b h w c"]


class Attention(nnx.Module):
    """Multi-head attention of an inner width, which may be narrower than what it joins."""

    def __init__(self, width: int, inner: int, heads: int, *, compute: Compute, rngs: nnx.Rngs):
        self.heads = heads
        self.compute = compute
        self.q_proj = linear(width, inner, compute=compute, rngs=rngs)
        self.k_proj = linear(width, inner, compute=compute, rngs=rngs)
        self.v_proj = linear(width, inner, compute=compute, rngs=rngs)
        self.out_proj = linear(inner, width, compute=compute, rngs=rngs)

    def __call__(
        self, query: Float[Array, "b n d"], key: Float[Array, "b t d"], value: Float[Array, "b t d"]
    ) -> Float[Array, "b n d"]:
        query, key, value = (
            rearrange(made, "b n (k d) -> b n k d", k=self.heads)
            for made in (self.q_proj(query), self.k_proj(key), self.v_proj(value))
        )
        out = attention(query, key, value, implementation=self.compute.attention)
        return self.out_proj(rearrange(out, "b n k d -> b n (k d)"))


class MLP(nnx.Module):
    """Two dense layers with a ReLU between them."""

    def __init__(self, width: int, inner: int, *, compute: Compute, rngs: nnx.Rngs):
        self.lin1 = linear(width, inner, compute=compute, rngs=rngs)
        self.lin2 = linear(inner, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.lin2(jax.nn.relu(self.lin1(x)))


class TwoWayBlock(nnx.Module):
    """The queries among themselves, queries to keys, an MLP, keys to queries; each post-norm.

    Of the `first` block the self-attention sees no positions, and its result stands alone, without
    a residual.
    """

    def __init__(self, config: BIMConfig, first: bool, *, compute: Compute, rngs: nnx.Rngs):
        width, heads = config.embedding_dim, config.num_heads
        inner = width // config.attention_downsample_rate
        self.first = first
        self.self_attn = Attention(width, width, heads, compute=compute, rngs=rngs)
        self.norm1 = _norm(config, compute=compute, rngs=rngs)
        self.cross_attn_token_to_image = Attention(width, inner, heads, compute=compute, rngs=rngs)
        self.norm2 = _norm(config, compute=compute, rngs=rngs)
        self.mlp = MLP(width, config.mlp_dim, compute=compute, rngs=rngs)
        self.norm3 = _norm(config, compute=compute, rngs=rngs)
        self.norm4 = _norm(config, compute=compute, rngs=rngs)
        self.cross_attn_image_to_token = Attention(width, inner, heads, compute=compute, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "b t d"],
        keys: Float[Array, "b n d"],
        query_positions: Float[Array, "b t d"],
        key_positions: Float[Array, "n d"],
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b n d"]]:
        if self.first:
            queries = self.self_attn(queries, queries, queries)
        else:
            placed = queries + query_positions
            queries = queries + self.self_attn(placed, placed, queries)
        queries = self.norm1(queries)

        placed_keys = keys + key_positions
        seen = self.cross_attn_token_to_image(queries + query_positions, placed_keys, keys)
        queries = self.norm2(queries + seen)
        queries = self.norm3(queries + self.mlp(queries))

        told = self.cross_attn_image_to_token(placed_keys, queries + query_positions, queries)
        return queries, self.norm4(keys + told)


class TwoWayTransformer(nnx.Module):
    """Blocks that turn queries and keys in turn, and a last look of the queries at the keys.

    The queries that come in are also their own positions throughout.
    """

    def __init__(self, config: BIMConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, heads = config.embedding_dim, config.num_heads
        inner = width // config.attention_downsample_rate
        self.compute = compute
        self.layers = nnx.List(
            TwoWayBlock(config, index == 0, compute=compute, rngs=rngs)
            for index in range(config.depth)
        )
        self.final_attn_token_to_image = Attention(width, inner, heads, compute=compute, rngs=rngs)
        self.norm_final_attn = _norm(config, compute=compute, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "b t d"],
        keys: Float[Array, "b n d"],
        key_positions: Float[Array, "n d"],
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b n d"]]:
        positions = queries
        for layer in self.layers:
            call = jax.checkpoint(layer.__call__) if self.compute.remat else layer
            queries, keys = call(queries, keys, positions, key_positions)
        seen = self.final_attn_token_to_image(queries + positions, keys + key_positions, keys)
        return self.norm_final_attn(queries + seen), keys


class FourierPositions(nnx.Module):
    """Random Fourier features of a grid's centres (Tancik et al. 2020): sines, then cosines.

    The frequencies are drawn once and stored; training leaves them.
    """

    def __init__(self, width: int, *, compute: Compute, rngs: nnx.Rngs):
        initial = nnx.initializers.normal(1.0)(rngs.params(), (2, width // 2), jnp.float32)
        self.positional_encoding_gaussian_matrix = Buffer(initial)

    def __call__(self, height: int, width: int) -> Float[Array, "n d"]:
        """Of height * width positions, row by row, float32."""
        matrix = self.positional_encoding_gaussian_matrix[...].astype(jnp.float32)
        y, x = jnp.meshgrid(_centres(height), _centres(width), indexing="ij")
        # Products and a sum, not a matrix product, which accelerators would round to bfloat16.
        phases = x[..., None] * matrix[0] + y[..., None] * matrix[1]
        angles = 2 * math.pi * rearrange(phases, "h w d -> (h w) d")
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class BIM(nnx.Module):
    """Joins the QFormer's text states with CLIP's patches, which are a square row by row.

    Example:
        >>> config = BIMConfig(text_width=6, embedding_dim=16, num_heads=2, out_channels=4)
        >>> bim = nnx.eval_shape(lambda: BIM(config, compute=Compute(), rngs=nnx.Rngs(0)))
        >>> text, patches = jnp.ones((2, 77, 6)), jnp.ones((2, 9, 16))
        >>> out = nnx.eval_shape(lambda bim: bim(text, patches), bim)
        >>> out.text_change.shape, out.image_features.shape
        ((2, 77, 6), (2, 3, 3, 4))
    """

    def __init__(self, config: BIMConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, text, channels = config.embedding_dim, config.text_width, config.out_channels
        self.config = config
        self.compute = compute
        self.modulate_head = linear(text, width, compute=compute, rngs=rngs)
        self.pe_layer = FourierPositions(width, compute=compute, rngs=rngs)
        self.modulate_transformer = TwoWayTransformer(config, compute=compute, rngs=rngs)
        self.dimension_reduction_head_zeroconv = conv(
            width, channels, 1, zero=True, compute=compute, rngs=rngs
        )
        self.dimension_reduction_head_qformer_out = linear(
            width, text, zero=True, compute=compute, rngs=rngs
        )

    def __call__(
        self, text_states: Float[Array, "b t d"], patches: Float[Array, "b n e"]
    ) -> BIMOutput:
        """The change of f and the features v', in the compute dtype.

        Args:
            text_states: f.
            patches: v, n of them in a square.

        Raises:
            ConfigError: when they are no square.
        """
        side = math.isqrt(patches.shape[1])
        if side**2 != patches.shape[1]:
            raise ConfigError(f"{patches.shape[1]} patches are no square; use those of one image")
        dtype = self.compute.dtype
        queries = self.modulate_head(text_states.astype(dtype))
        positions = self.pe_layer(side, side).astype(dtype)
        queries, keys = self.modulate_transformer(queries, patches.astype(dtype), positions)
        grid = rearrange(keys, "b (h w) d -> b h w d", h=side)
        return BIMOutput(
            self.dimension_reduction_head_qformer_out(queries),
            self.dimension_reduction_head_zeroconv(grid),
        )


def resized(
    image_features: Float[Array, "b h w c"], height: int, width: int
) -> Float[Array, "b h2 w2 c"]:
    """v' at another grid, such as that of latents: bilinear, as PyTorch's without aligned corners.

    The official code resizes first, and takes the 1x1 convolution that makes v' then. Both are
    linear and the weights of a resize add up to 1, so that either order gives the same, and this
    one leaves less to compute and to keep.

    Example:
        >>> resized(jnp.ones((1, 16, 16, 320)), 32, 48).shape
        (1, 32, 48, 320)
    """
    batch, *size, channels = image_features.shape
    if size == [height, width]:
        return image_features
    wide = image_features.astype(jnp.float32)
    shape = (batch, height, width, channels)
    made: Array = jax.image.resize(wide, shape, "bilinear", antialias=False)
    return made.astype(image_features.dtype)


def _centres(count: int) -> Float[Array, "n"]:
    """Of `count` equal parts of [-1, 1]."""
    return 2 * (jnp.arange(count, dtype=jnp.float32) + 0.5) / count - 1


def _norm(config: BIMConfig, *, compute: Compute, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return layer_norm(config.embedding_dim, epsilon=1e-5, compute=compute, rngs=rngs)
