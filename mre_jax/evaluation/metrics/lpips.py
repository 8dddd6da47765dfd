"""LPIPS (Zhang et al. 2018) by SqueezeNet 1.1: how far two pictures lie apart in its features."""

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Float64

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.batched import Batched
from mre_jax.evaluation.metrics.pretrained import (
    Loaded,
    PretrainedNetwork,
    fingerprint,
    read_network,
)
from mre_jax.models.layers import Compute
from mre_jax.weights.files.source import Joined, TensorSource, open_tensors, renamed

Pair = Float[np.ndarray, "2 H W 3"]
Maps = Float[Array, "b h w c"]
MadeMaps = Float[Array, "b h2 w2 d"]

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPSILON = 1e-8

_TAKEN = (1, 4, 7, 9, 10, 11, 12)
"""The layers of SqueezeNet whose outputs are compared."""

_WIDTHS = (64, 128, 256, 384, 384, 512, 512)
_FIRES = {
    3: (64, 16, 64),
    4: (128, 16, 64),
    6: (128, 32, 128),
    7: (256, 32, 128),
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}
"""Channels that come in, between, and from each of the two convolutions, by layer."""

_FILES = {
    "squeezenet1_1*": "torchvision's squeezenet1_1-b8a52dc0.pth",
    "squeeze.*": "squeeze.pth of LPIPS v0.1",
}


class LPIPS(PretrainedNetwork["SqueezeLPIPS"]):
    """Distances of pairs of pictures, one a pair, 0 for equal ones.

    Its folder holds torchvision's SqueezeNet 1.1 and the linear layers of LPIPS v0.1, as
    squeezenet1_1-b8a52dc0.pth and squeeze.pth; or it is one file of both, the state of the network
    of the lpips package or of torchmetrics.
    """

    @classmethod
    def read(cls, path: Path) -> Loaded["SqueezeLPIPS"]:
        """See `PretrainedNetwork`."""
        source = renamed(_opened(path), _our_name)
        model = read_network(SqueezeLPIPS, source)
        return Loaded(model, f"LPIPS SqueezeNet ({fingerprint(source)})", PairInput())

    @staticmethod
    def forward(
        model: "SqueezeLPIPS",
        pixels: Float32[Array, "b 2 H W 3"],
    ) -> Float32[Array, " b"]:
        """See `PretrainedNetwork`; the batch is one of pairs."""
        return model(pixels[:, 0], pixels[:, 1])

    @functools.cached_property
    def _pairs(self) -> Batched[Pair]:
        inputs = self._loaded.inputs
        return self._batched(
            lambda model, pixels: self.forward(model, inputs.normalise(pixels)), inputs.pixels
        )

    def distance(self, pairs: Iterable[Pair]) -> Float64[np.ndarray, " n"]:
        """The distance of each pair, whose values are in [0, 1].

        Args:
            pairs: both pictures of each, all of one size; read as they are needed.

        Raises:
            DataError: if there are none.
        """
        return np.asarray(self._pairs(pairs), np.float64)


class PairInput:
    """Pairs of pictures in [0, 1] as LPIPS takes them."""

    def pixels(self, pair: Pair) -> Float32[np.ndarray, "2 H W 3"]:
        """The pair, on the host."""
        return pair.astype(np.float32)

    def normalise(self, pixels: Float32[Array, "b 2 H W 3"]) -> Float32[Array, "b 2 H W 3"]:
        """What the network sees, on the device: [-1, 1], then its own shift and scale."""
        return (2 * pixels - 1 - jnp.float32(_SHIFT)) / jnp.float32(_SCALE)

    def __str__(self) -> str:
        return "RGB in [-1, 1]"


class SqueezeLPIPS(nnx.Module):
    """Seven feature maps of SqueezeNet 1.1, at unit length, and what their differences weigh."""

    def __init__(self, *, compute: Compute, rngs: nnx.Rngs):
        first = _conv(3, 64, 3, stride=2, compute=compute, rngs=rngs)
        fires = {n: Fire(*widths, compute=compute, rngs=rngs) for n, widths in _FIRES.items()}
        # By their places in torchvision's list, whose ReLU and pools have no weights.
        self.features = nnx.Dict({"0": first, **{str(n): fire for n, fire in fires.items()}})
        self.lins = nnx.List(
            nnx.Conv(width, 1, (1, 1), use_bias=False, dtype=compute.dtype, rngs=rngs)
            for width in _WIDTHS
        )

    def __call__(
        self, first: Float[Array, "b H W 3"], second: Float[Array, "b H W 3"]
    ) -> Float[Array, " b"]:
        """The sum over the maps of the weighted squared difference's mean over the picture."""
        maps = self.maps(jnp.concatenate([first, second]))
        parts = []
        for lin, taken in zip(self.lins, maps, strict=True):
            one, other = jnp.split(_unit(taken), 2)
            parts.append(jnp.mean(lin((one - other) ** 2), axis=(1, 2, 3)))
        return jnp.sum(jnp.stack(parts), axis=0)

    def maps(self, x: Float[Array, "b H W 3"]) -> Sequence[Float[Array, "b _ _ _"]]:
        """The outputs of the layers that are compared."""
        x = jax.nn.relu(self.features["0"](x))
        found = [x]
        for layer in range(2, 13):
            x = self.features[str(layer)](x) if layer in _FIRES else _pooled(x)
            if layer in _TAKEN:
                found.append(x)
        return found


class Fire(nnx.Module):
    """A convolution of 1x1 to few channels, and from these one of 1x1 beside one of 3x3."""

    def __init__(
        self, channels: int, squeezed: int, expanded: int, *, compute: Compute, rngs: nnx.Rngs
    ):
        self.squeeze = _conv(channels, squeezed, 1, compute=compute, rngs=rngs)
        self.expand1x1 = _conv(squeezed, expanded, 1, compute=compute, rngs=rngs)
        self.expand3x3 = _conv(squeezed, expanded, 3, padding=1, compute=compute, rngs=rngs)

    def __call__(self, x: Maps) -> MadeMaps:
        x = jax.nn.relu(self.squeeze(x))
        return jax.nn.relu(jnp.concatenate([self.expand1x1(x), self.expand3x3(x)], axis=-1))


def _conv(
    channels: int,
    width: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    *,
    compute: Compute,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    return nnx.Conv(
        channels,
        width,
        (kernel, kernel),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        dtype=compute.dtype,
        rngs=rngs,
    )


def _pooled(x: Maps) -> MadeMaps:
    """The maximum of 3x3 at every second place; the last window may reach over the border."""
    over = [(0, (side - 3) % 2) for side in x.shape[1:3]]
    return nnx.max_pool(x, (3, 3), (2, 2), over)


def _unit(x: Maps) -> Maps:
    return x * jax.lax.rsqrt(_EPSILON + jnp.sum(x**2, axis=-1, keepdims=True))


def _opened(path: Path) -> TensorSource:
    if not path.is_dir():
        return open_tensors(path)
    sources = []
    for pattern, file in _FILES.items():
        found = sorted(path.glob(pattern))
        if len(found) != 1:
            raise DataError(f"{path}: {len(found)} files {pattern} in it; want one, {file}")
        sources.append(open_tensors(found[0]))
    return Joined(sources)


def _our_name(name: str) -> str | None:
    """The name here of a tensor of torchvision, of LPIPS, or of torchmetrics; None for others."""
    if match := _FEATURE.fullmatch(name):
        return f"features.{match[1]}"
    if match := _LINEAR.fullmatch(name):
        return f"lins.{match[1]}.weight"
    return None if name.startswith(_NOT_NEEDED) else name


_FEATURE = re.compile(r"(?:net\.)?(?:features|slices\.\d+|slice\d+)\.(\d+\..+)")
_LINEAR = re.compile(r"lin(\d+)\.model\.\d+\.weight")
_NOT_NEEDED = ("classifier.", "scaling_layer.", "lins.")  # the last stand twice in whole states
