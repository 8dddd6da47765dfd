"""Stable Diffusion's autoencoder (Rombach et al. 2022), with the names of diffusers."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from mre_jax.errors import ConfigError
from mre_jax.models.attention import attention
from mre_jax.models.config_dict import check_divides, read_config, write_config
from mre_jax.models.layers import Compute, conv, group_norm, linear
from mre_jax.models.tiling import Tiling, apply_tiled

_EPSILON = 1e-6
_DOWN_TYPE, _UP_TYPE = "DownEncoderBlock2D", "UpDecoderBlock2D"


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Diffusers' names and meanings; the defaults are Stable Diffusion 1.5's.

    Attributes:
        block_out_channels: channels of each level; between two levels the grid halves.
        sample_size: side in pixels of the tiles when tiling is on.
        scaling_factor: what the diffusion model's latents are multiplied by; `encode` and
            `decode` know nothing of it.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_num_groups: int = 32
    sample_size: int = 512
    scaling_factor: float = 0.18215
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self) -> None:
        if not self.scaling_factor > 0:
            raise ConfigError(f"scaling_factor {self.scaling_factor} must be above 0")
        for channels in self.block_out_channels:
            check_divides("norm_num_groups", self.norm_num_groups, "block_out_channels", channels)

    @property
    def downscale(self) -> int:
        """Pixels per latent along each side."""
        return 1 << (len(self.block_out_channels) - 1)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "VAEConfig":
        """Reads diffusers' config.json; what it leaves out or nulls has diffusers' default.

        Raises:
            ConfigError: for a value that asks for another network than this one.
        """
        defaults = {"block_out_channels": (64,), "layers_per_block": 1, "sample_size": 32}
        config = read_config(cls, mapping, defaults=defaults, supported=_SUPPORTED)
        levels = len(config.block_out_channels)
        for key, kind in (("down_block_types", _DOWN_TYPE), ("up_block_types", _UP_TYPE)):
            types = tuple(mapping.get(key) or (kind,))
            if types != (kind,) * levels:
                raise ConfigError(
                    f"{key} {list(types)} is not supported; "
                    f"it must be {kind!r} for each of the {levels} block_out_channels"
                )
        return config

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for diffusers and for `from_dict`."""
        levels = len(self.block_out_channels)
        return {
            **write_config(self),
            "down_block_types": [_DOWN_TYPE] * levels,
            "up_block_types": [_UP_TYPE] * levels,
        }


# Keys that would change the network or the meaning of its latents.
_SUPPORTED = {"act_fn": "silu", "shift_factor": 0.0, "latents_mean": None, "latents_std": None}


class LatentMoments(NamedTuple):
    """The normal distribution that the encoder gives for each latent, float32.

    Attributes:
        mean: unscaled.
        logvar: logarithm of the variance, within [-30, 20].
    """

    mean: Float[Array, "b h w c"]
    logvar: Float[Array, "b h w c"]

    def mode(self) -> Float[Array, "b h w c"]:
        """The likeliest latents."""
        return self.mean

    def sample(self, key: PRNGKeyArray) -> Float[Array, "b h w c"]:
        """Latents drawn with one key for the whole batch."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(0.5 * self.logvar) * noise


class ResnetBlock(nnx.Module):
    """Two convolutions and a residual."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.norm1 = _norm(in_channels, groups, compute, rngs)
        self.conv1 = conv(in_channels, out_channels, compute=compute, rngs=rngs)
        self.norm2 = _norm(out_channels, groups, compute, rngs)
        self.conv2 = conv(out_channels, out_channels, compute=compute, rngs=rngs)
        self.conv_shortcut = (
            conv(in_channels, out_channels, 1, compute=compute, rngs=rngs)
            if in_channels != out_channels
            else None
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        hidden = self.conv1(jax.nn.silu(self.norm1(x)))
        hidden = self.conv2(jax.nn.silu(self.norm2(hidden)))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + hidden


class Attention(nnx.Module):
    """Self-attention with a single head over the h*w positions, and a residual."""

    def __init__(self, channels: int, groups: int, *, compute: Compute, rngs: nnx.Rngs):
        self.compute = compute
        self.group_norm = _norm(channels, groups, compute, rngs)
        self.to_q = linear(channels, channels, compute=compute, rngs=rngs)
        self.to_k = linear(channels, channels, compute=compute, rngs=rngs)
        self.to_v = linear(channels, channels, compute=compute, rngs=rngs)
        self.to_out = nnx.List([linear(channels, channels, compute=compute, rngs=rngs)])

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        normed = self.group_norm(x)
        query, key, value = (
            rearrange(project(normed), "b h w d -> b (h w) 1 d")
            for project in (self.to_q, self.to_k, self.to_v)
        )
        out = attention(query, key, value, implementation=self.compute.attention)
        out = rearrange(out, "b (h w) 1 d -> b h w d", h=x.shape[1])
        return x + self.to_out[0](out)


class Downsample(nnx.Module):
    """Halves the grid; a last row and column of zeros are added, none before the first."""

    def __init__(self, channels: int, *, compute: Compute, rngs: nnx.Rngs):
        padding = ((0, 1), (0, 1))
        self.conv = conv(channels, channels, 3, 2, padding, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return self.conv(x)


class Upsample(nnx.Module):
    """Doubles the grid by nearest neighbour."""

    def __init__(self, channels: int, *, compute: Compute, rngs: nnx.Rngs):
        self.conv = conv(channels, channels, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        return self.conv(repeat(x, "b h w c -> b (h 2) (w 2) c"))


class DownBlock(nnx.Module):
    """ResNet blocks, then `Downsample` unless this is the last level."""

    def __init__(self, config: VAEConfig, level: int, *, compute: Compute, rngs: nnx.Rngs):
        widths = config.block_out_channels
        inputs = [widths[max(level - 1, 0)], *[widths[level]] * (config.layers_per_block - 1)]
        self.resnets = nnx.List(_resnets(config, inputs, widths[level], compute, rngs))
        is_last = level == len(widths) - 1
        self.downsamplers = nnx.List(
            [] if is_last else [Downsample(widths[level], compute=compute, rngs=rngs)]
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        for layer in (*self.resnets, *self.downsamplers):
            x = layer(x)
        return x


class MidBlock(nnx.Module):
    """ResNet, attention unless the configuration leaves it out, ResNet."""

    def __init__(self, config: VAEConfig, *, compute: Compute, rngs: nnx.Rngs):
        channels, groups = config.block_out_channels[-1], config.norm_num_groups
        self.resnets = nnx.List(_resnets(config, [channels] * 2, channels, compute, rngs))
        self.attentions = nnx.List(
            [Attention(channels, groups, compute=compute, rngs=rngs)]
            if config.mid_block_add_attention
            else []
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        for layer in (self.resnets[0], *self.attentions, self.resnets[1]):
            x = layer(x)
        return x


class UpBlock(nnx.Module):
    """ResNet blocks, one more than on the way down, then `Upsample` unless this is the last."""

    def __init__(self, config: VAEConfig, level: int, *, compute: Compute, rngs: nnx.Rngs):
        widths = config.block_out_channels[::-1]
        inputs = [widths[max(level - 1, 0)], *[widths[level]] * config.layers_per_block]
        self.resnets = nnx.List(_resnets(config, inputs, widths[level], compute, rngs))
        is_last = level == len(widths) - 1
        self.upsamplers = nnx.List(
            [] if is_last else [Upsample(widths[level], compute=compute, rngs=rngs)]
        )

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        for layer in (*self.resnets, *self.upsamplers):
            x = layer(x)
        return x


class Encoder(nnx.Module):
    """Images to the mean and log-variance of their latents, before the last 1x1 convolution."""

    def __init__(self, config: VAEConfig, *, compute: Compute, rngs: nnx.Rngs):
        widths = config.block_out_channels
        self.conv_in = conv(config.in_channels, widths[0], compute=compute, rngs=rngs)
        self.down_blocks = nnx.List(
            [DownBlock(config, i, compute=compute, rngs=rngs) for i in range(len(widths))]
        )
        self.mid_block = MidBlock(config, compute=compute, rngs=rngs)
        self.conv_norm_out = _norm(widths[-1], config.norm_num_groups, compute, rngs)
        self.conv_out = conv(widths[-1], 2 * config.latent_channels, compute=compute, rngs=rngs)
        self.compute = compute

    def __call__(self, x: Float[Array, "b H W c"]) -> Float[Array, "b h w d"]:
        x = self.conv_in(x)
        for block in (*self.down_blocks, self.mid_block):
            x = _run(block, x, self.compute)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class Decoder(nnx.Module):
    """Latents to images, after the first 1x1 convolution."""

    def __init__(self, config: VAEConfig, *, compute: Compute, rngs: nnx.Rngs):
        widths = config.block_out_channels
        self.conv_in = conv(config.latent_channels, widths[-1], compute=compute, rngs=rngs)
        self.mid_block = MidBlock(config, compute=compute, rngs=rngs)
        self.up_blocks = nnx.List(
            [UpBlock(config, i, compute=compute, rngs=rngs) for i in range(len(widths))]
        )
        self.conv_norm_out = _norm(widths[0], config.norm_num_groups, compute, rngs)
        self.conv_out = conv(widths[0], config.out_channels, compute=compute, rngs=rngs)
        self.compute = compute

    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b H W c"]:
        x = self.conv_in(x)
        for block in (self.mid_block, *self.up_blocks):
            x = _run(block, x, self.compute)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class AutoencoderKL(nnx.Module):
    """Images in [-1, 1] to latents of an eighth of their size (for SD) and back.

    Args:
        tiling: encode and decode pictures larger than `config.sample_size` in overlapping tiles,
            which bounds the memory and changes the result slightly.

    Example:
        >>> config = VAEConfig(block_out_channels=(32, 32), layers_per_block=1)
        >>> vae = nnx.eval_shape(
        ...     lambda: AutoencoderKL(config, compute=Compute(), rngs=nnx.Rngs(0))
        ... )
        >>> pixels = jnp.zeros((1, 16, 16, 3))
        >>> nnx.eval_shape(lambda vae: vae.encode(pixels).mode(), vae).shape
        (1, 8, 8, 4)
    """

    def __init__(
        self, config: VAEConfig, *, tiling: bool = False, compute: Compute, rngs: nnx.Rngs
    ):
        self.config = config
        self.compute = compute
        self.tiling = tiling
        self.encoder = Encoder(config, compute=compute, rngs=rngs)
        self.decoder = Decoder(config, compute=compute, rngs=rngs)

        def pointwise(channels: int) -> nnx.Conv:
            return conv(channels, channels, 1, compute=compute, rngs=rngs)

        latents = config.latent_channels
        self.quant_conv = pointwise(2 * latents) if config.use_quant_conv else None
        self.post_quant_conv = pointwise(latents) if config.use_post_quant_conv else None

    def encode(self, images: Float[Array, "b H W c"]) -> LatentMoments:
        """The distribution of the unscaled latents, float32; images in [-1, 1]."""
        small = self.config.sample_size // self.config.downscale
        tiling = Tiling(source=self.config.sample_size, target=small)
        moments = self._apply(self._encode, images, tiling).astype(jnp.float32)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return LatentMoments(mean, jnp.clip(logvar, -30, 20))

    def decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W d"]:
        """Images in about [-1, 1] from unscaled latents, in `compute.dtype`."""
        small = self.config.sample_size // self.config.downscale
        tiling = Tiling(source=small, target=self.config.sample_size)
        return self._apply(self._decode, latents, tiling)

    def _apply(self, network: Callable[[Array], Array], x: Array, tiling: Tiling) -> Array:
        x = x.astype(self.compute.dtype)
        if self.tiling and tiling.applies(x):
            return apply_tiled(network, x, tiling)
        return network(x)

    def _encode(self, images: Float[Array, "b H W c"]) -> Float[Array, "b h w d"]:
        moments = self.encoder(images)
        return moments if self.quant_conv is None else self.quant_conv(moments)

    def _decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W d"]:
        if self.post_quant_conv is not None:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)


def _norm(channels: int, groups: int, compute: Compute, rngs: nnx.Rngs) -> nnx.GroupNorm:
    return group_norm(channels, groups=groups, epsilon=_EPSILON, compute=compute, rngs=rngs)


def _resnets(
    config: VAEConfig, in_channels: list[int], channels: int, compute: Compute, rngs: nnx.Rngs
) -> list[ResnetBlock]:
    groups = config.norm_num_groups
    return [
        ResnetBlock(width, channels, groups, compute=compute, rngs=rngs) for width in in_channels
    ]


def _run(block: Callable[[Array], Array], x: Array, compute: Compute) -> Array:
    """block(x), whose activations the backward pass keeps or computes again."""
    return jax.checkpoint(lambda x: block(x))(x) if compute.remat else block(x)
