"""The blocks a UNet is stacked from: ResNet units, each with or without a transformer after it."""

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest

import jax
import jax.numpy as jnp
from einops import repeat
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.models.layers import Compute, conv, group_norm, linear
from mre_jax.models.transformer import KeyValue, Transformer2D
from mre_jax.models.unet_config import UNetConfig

# Keys and values of the prompt for each transformer of a block; empty for one without.
BlockContext = tuple[KeyValue, ...]


class ResnetBlock(nnx.Module):
    """Two convolutions with the time embedding added between them, and a residual."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_width: int,
        groups: int,
        epsilon: float,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        def norm(channels: int) -> nnx.GroupNorm:
            return group_norm(channels, groups=groups, epsilon=epsilon, compute=compute, rngs=rngs)

        self.norm1 = norm(in_channels)
        self.conv1 = conv(in_channels, out_channels, compute=compute, rngs=rngs)
        self.time_emb_proj = linear(time_width, out_channels, compute=compute, rngs=rngs)
        self.norm2 = norm(out_channels)
        self.conv2 = conv(out_channels, out_channels, compute=compute, rngs=rngs)
        self.conv_shortcut = (
            conv(in_channels, out_channels, 1, compute=compute, rngs=rngs)
            if in_channels != out_channels
            else None
        )

    def __call__(
        self, x: Float[Array, "b h w c"], time: Float[Array, "b e"]
    ) -> Float[Array, "b h w d"]:
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(jax.nn.silu(time))[:, None, None, :]
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + hidden


class Downsample(nnx.Module):
    """Halves the grid, rounding up."""

    def __init__(self, channels: int, *, compute: Compute, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, stride=2, padding=1, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles the grid by nearest neighbour, or one less where `Downsample` had rounded up."""

    def __init__(self, channels: int, *, compute: Compute, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, compute=compute, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b h w c"], size: tuple[int, int]
    ) -> Float[Array, "b h2 w2 c"]:
        doubled = repeat(x, "b h w c -> b (h 2) (w 2) c")
        # Equal to PyTorch's nearest interpolation to `size`, which is 2n or 2n - 1.
        return self.conv(doubled[:, : size[0], : size[1]])


class DownBlock(nnx.Module):
    """CrossAttnDownBlock2D and DownBlock2D: units, then `Downsample` unless it is the last."""

    def __init__(
        self,
        config: UNetConfig,
        index: int,
        in_channels: int,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        channels = config.block_out_channels[index]
        inputs = [in_channels] + [channels] * (config.layers_per_block - 1)
        has_attention = config.down_block_types[index].startswith("CrossAttn")
        heads = config.heads[index] if has_attention else None
        resnets, attentions = _units(config, inputs, channels, heads, compute=compute, rngs=rngs)
        self.resnets, self.attentions = nnx.List(resnets), nnx.List(attentions)
        is_last = index == len(config.block_out_channels) - 1
        self.downsamplers = nnx.List(
            [] if is_last else [Downsample(channels, compute=compute, rngs=rngs)]
        )
        self.compute = compute

    def __call__(
        self, x: Float[Array, "b h w c"], time: Float[Array, "b e"], context: BlockContext
    ) -> tuple[Float[Array, "b h2 w2 d"], list[Array]]:
        """Returns the block's output and the skip connections, one per unit and downsampling."""
        skips = []
        unit = _unit_of(self.compute)
        for resnet, attend, keys in _pairs(self.resnets, self.attentions, context):
            x = unit(resnet, attend, x, time, keys)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nnx.Module):
    """UNetMidBlock2DCrossAttn: a ResNet unit, a transformer, a ResNet unit."""

    def __init__(self, config: UNetConfig, *, compute: Compute, rngs: nnx.Rngs):
        channels = config.block_out_channels[-1]
        resnets, _ = _units(config, [channels] * 2, channels, None, compute=compute, rngs=rngs)
        attend = _transformer(config, channels, config.heads[-1], compute=compute, rngs=rngs)
        self.resnets, self.attentions = nnx.List(resnets), nnx.List([attend])
        self.compute = compute

    def __call__(
        self, x: Float[Array, "b h w c"], time: Float[Array, "b e"], context: BlockContext
    ) -> Float[Array, "b h w c"]:
        unit = _unit_of(self.compute)
        for resnet, attend, keys in _pairs(self.resnets, self.attentions, context):
            x = unit(resnet, attend, x, time, keys)
        return x


class UpBlock(nnx.Module):
    """CrossAttnUpBlock2D and UpBlock2D: units that each take a skip, then `Upsample`."""

    def __init__(
        self,
        config: UNetConfig,
        index: int,
        in_channels: int,
        skip_channels: Sequence[int],
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        mirrored = len(config.block_out_channels) - 1 - index
        channels = config.block_out_channels[mirrored]
        hidden = [in_channels] + [channels] * (len(skip_channels) - 1)
        inputs = [a + b for a, b in zip(hidden, skip_channels, strict=True)]
        has_attention = config.up_block_types[index].startswith("CrossAttn")
        heads = config.heads[mirrored] if has_attention else None
        resnets, attentions = _units(config, inputs, channels, heads, compute=compute, rngs=rngs)
        self.resnets, self.attentions = nnx.List(resnets), nnx.List(attentions)
        self.upsamplers = nnx.List(
            [Upsample(channels, compute=compute, rngs=rngs)] if mirrored else []
        )
        self.compute = compute

    def __call__(
        self,
        x: Float[Array, "b h w c"],
        time: Float[Array, "b e"],
        context: BlockContext,
        skips: Sequence[Array],
        size: tuple[int, int],
    ) -> Float[Array, "b h2 w2 d"]:
        """`skips` in the order of use; `size` is the grid of the next block."""
        unit = _unit_of(self.compute)
        pairs = _pairs(self.resnets, self.attentions, context)
        for (resnet, attend, keys), skip in zip(pairs, skips, strict=True):
            x = jnp.concatenate([x, skip], axis=-1)
            x = unit(resnet, attend, x, time, keys)
        for upsample in self.upsamplers:
            x = upsample(x, size)
        return x


def block_context(
    block: DownBlock | MidBlock | UpBlock, states: Float[Array, "b t c"]
) -> BlockContext:
    """Keys and values of the prompt's states for every transformer of `block`."""
    return tuple(attend.key_value(states) for attend in block.attentions)


def _pairs(
    resnets: Iterable[ResnetBlock], attentions: Iterable[Transformer2D], context: BlockContext
) -> Iterable[tuple[ResnetBlock, Transformer2D | None, KeyValue | None]]:
    """The units of a block; a ResNet without a transformer after it goes with None."""
    return zip_longest(resnets, attentions, context)


def _unit(
    resnet: ResnetBlock,
    attend: Transformer2D | None,
    x: Array,
    time: Array,
    keys: KeyValue | None,
) -> Array:
    x = resnet(x, time)
    return x if attend is None or keys is None else attend(x, keys)


def _unit_of(compute: Compute) -> Callable[..., Array]:
    """`_unit`, whose activations the backward pass keeps or computes again."""
    return nnx.remat(_unit) if compute.remat else _unit


def _units(
    config: UNetConfig,
    in_channels: Sequence[int],
    channels: int,
    heads: int | None,
    *,
    compute: Compute,
    rngs: nnx.Rngs,
) -> tuple[list[ResnetBlock], list[Transformer2D]]:
    """ResNets with those input widths, and as many transformers, or none if `heads` is None."""
    resnets = [
        ResnetBlock(
            width,
            channels,
            config.time_width,
            config.norm_num_groups,
            config.norm_eps,
            compute=compute,
            rngs=rngs,
        )
        for width in in_channels
    ]
    attentions = [
        _transformer(config, channels, heads, compute=compute, rngs=rngs)
        for _ in in_channels
        if heads is not None
    ]
    return resnets, attentions


def _transformer(
    config: UNetConfig, channels: int, heads: int, *, compute: Compute, rngs: nnx.Rngs
) -> Transformer2D:
    return Transformer2D(
        channels,
        config.cross_attention_dim,
        heads,
        config.norm_num_groups,
        config.use_linear_projection,
        config.upcast_attention,
        compute=compute,
        rngs=rngs,
    )
