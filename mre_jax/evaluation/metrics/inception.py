"""Inception v3 (Szegedy et al. 2015) as the Fréchet distance uses it, with PyTorch's names.

The published weights come from a TensorFlow graph, whose average pools do not count the padding
and whose last block pools by the maximum; ImageNet networks of the same name differ in both.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.models.layers import Compute

FEATURES = (64, 192, 768, 2048)
"""Widths of the four places whose mean over the picture is a feature."""

Maps: TypeAlias = Float[Array, "b h w c"]
MadeMaps: TypeAlias = Float[Array, "b h2 w2 d"]
Size: TypeAlias = int | tuple[int, int]

_EPSILON = 1e-3


class BatchNorm(nnx.Module):
    """Normalisation by the statistics of training, which are weights like others here."""

    def __init__(self, width: int):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.running_mean = nnx.Param(jnp.zeros(width))
        self.running_var = nnx.Param(jnp.ones(width))

    def __call__(self, x: Maps) -> Maps:
        factor = self.scale[...] * jax.lax.rsqrt(self.running_var[...] + _EPSILON)
        return (x - self.running_mean[...]) * factor + self.bias[...]


class BasicConv2d(nnx.Module):
    """Convolution without a bias, normalisation, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: int = 1,
        padding: Size = 0,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        height, width = _pair(padding)
        self.conv = nnx.Conv(
            in_channels,
            out_channels,
            _pair(kernel_size),
            strides=stride,
            padding=((height, height), (width, width)),
            use_bias=False,
            dtype=compute.dtype,
            rngs=rngs,
        )
        self.bn = BatchNorm(out_channels)

    def __call__(self, x: Maps) -> MadeMaps:
        return jax.nn.relu(self.bn(self.conv(x)))


class InceptionV3(nnx.Module):
    """Pixels in [-1, 1] to the mean of the four feature maps.

    Args:
        width: channels of the first feature, 64 in the published network; every other width goes
            with it. A multiple of 4.
    """

    def __init__(self, *, width: int = 64, compute: Compute, rngs: nnx.Rngs):
        make = _Maker(width, compute, rngs)
        self.Conv2d_1a_3x3 = make.conv(None, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = make.conv(32, 32, 3)
        self.Conv2d_2b_3x3 = make.conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = make.conv(64, 80, 1)
        self.Conv2d_4a_3x3 = make.conv(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32, make)
        self.Mixed_5c = InceptionA(256, 64, make)
        self.Mixed_5d = InceptionA(288, 64, make)
        self.Mixed_6a = InceptionB(288, make)
        self.Mixed_6b = InceptionC(768, 128, make)
        self.Mixed_6c = InceptionC(768, 160, make)
        self.Mixed_6d = InceptionC(768, 160, make)
        self.Mixed_6e = InceptionC(768, 192, make)
        self.Mixed_7a = InceptionD(768, make)
        self.Mixed_7b = InceptionE(1280, make)
        self.Mixed_7c = InceptionE(2048, make, last=True)

    def __call__(self, x: Float[Array, "b H W 3"]) -> dict[int, Float[Array, "b d"]]:
        """Features by their width in the published network, the keys of `FEATURES`."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = first = _max_pool(x)
        x = second = _max_pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_6a(self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x))))
        x = third = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(x))))
        last = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        maps = (first, second, third, last)
        return {width: jnp.mean(x, axis=(1, 2)) for width, x in zip(FEATURES, maps, strict=True)}


class _Maker:
    """Makes convolutions whose widths are given for the published network."""

    def __init__(self, width: int, compute: Compute, rngs: nnx.Rngs):
        self._width, self._compute, self._rngs = width, compute, rngs

    def conv(
        self,
        in_channels: int | None,
        out_channels: int,
        kernel_size: Size,
        stride: int = 1,
        padding: Size = 0,
    ) -> BasicConv2d:
        """`in_channels` None stands for the picture's 3."""
        return BasicConv2d(
            3 if in_channels is None else self._scaled(in_channels),
            self._scaled(out_channels),
            kernel_size,
            stride,
            padding,
            compute=self._compute,
            rngs=self._rngs,
        )

    def _scaled(self, channels: int) -> int:
        return channels * self._width // FEATURES[0]


class InceptionA(nnx.Module):
    """Branches of 1x1, 5x5 and twice 3x3, and an average pool."""

    def __init__(self, channels: int, pool_channels: int, make: _Maker):
        self.branch1x1 = make.conv(channels, 64, 1)
        self.branch5x5_1 = make.conv(channels, 48, 1)
        self.branch5x5_2 = make.conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = make.conv(channels, 64, 1)
        self.branch3x3dbl_2 = make.conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = make.conv(96, 96, 3, padding=1)
        self.branch_pool = make.conv(channels, pool_channels, 1)

    def __call__(self, x: Maps) -> MadeMaps:
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionB(nnx.Module):
    """Halves the size: branches of 3x3 and twice 3x3, and a maximum pool."""

    def __init__(self, channels: int, make: _Maker):
        self.branch3x3 = make.conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = make.conv(channels, 64, 1)
        self.branch3x3dbl_2 = make.conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = make.conv(96, 96, 3, stride=2)

    def __call__(self, x: Maps) -> MadeMaps:
        branches = [
            self.branch3x3(x),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionC(nnx.Module):
    """Branches of 1x1, once and twice 7x7 in two strips each, and an average pool."""

    def __init__(self, channels: int, inner: int, make: _Maker):
        self.branch1x1 = make.conv(channels, 192, 1)
        self.branch7x7_1 = make.conv(channels, inner, 1)
        self.branch7x7_2 = make.conv(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7_3 = make.conv(inner, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = make.conv(channels, inner, 1)
        self.branch7x7dbl_2 = make.conv(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = make.conv(inner, inner, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = make.conv(inner, inner, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = make.conv(inner, 192, (1, 7), padding=(0, 3))
        self.branch_pool = make.conv(channels, 192, 1)

    def __call__(self, x: Maps) -> MadeMaps:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        branches = [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_average(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionD(nnx.Module):
    """Halves the size: branches of 3x3 and 7x7, and a maximum pool."""

    def __init__(self, channels: int, make: _Maker):
        self.branch3x3_1 = make.conv(channels, 192, 1)
        self.branch3x3_2 = make.conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = make.conv(channels, 192, 1)
        self.branch7x7x3_2 = make.conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = make.conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = make.conv(192, 192, 3, stride=2)

    def __call__(self, x: Maps) -> MadeMaps:
        strips = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        branches = [
            self.branch3x3_2(self.branch3x3_1(x)),
            self.branch7x7x3_4(strips),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionE(nnx.Module):
    """Branches that fork into two strips of 3x3; the `last` block pools by the maximum."""

    def __init__(self, channels: int, make: _Maker, last: bool = False):
        self.last = last
        self.branch1x1 = make.conv(channels, 320, 1)
        self.branch3x3_1 = make.conv(channels, 384, 1)
        self.branch3x3_2a = make.conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = make.conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = make.conv(channels, 448, 1)
        self.branch3x3dbl_2 = make.conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = make.conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = make.conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = make.conv(channels, 192, 1)

    def __call__(self, x: Maps) -> MadeMaps:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _max_pool(x, stride=1, padding="SAME") if self.last else _average(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


def _max_pool(x: Maps, stride: int = 2, padding: str = "VALID") -> MadeMaps:
    return nnx.max_pool(x, (3, 3), (stride, stride), padding)


def _average(x: Maps) -> Maps:
    """The mean of the 3x3 neighbours that are inside the picture."""
    return nnx.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
