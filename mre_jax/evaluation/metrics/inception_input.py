"""Pictures as the two programs that publish Fréchet distances in PyTorch feed them to Inception.

Both resize to 299x299 without regard to the proportions and without smoothing, so that what lies
between the samples is lost; they differ in where they sample, and in the range.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32

from mre_jax.errors import ConfigError
from mre_jax.evaluation.metrics.preprocess import Picture, open_picture
from mre_jax.io.image import to_array


@dataclasses.dataclass(frozen=True)
class InceptionInput:
    """One program's way.

    Attributes:
        name: the program: "torch-fidelity", which torchmetrics calls and which does as TensorFlow
            1 did, or "pytorch-fid".
        side: height and width of the input in pixels.

    Raises:
        ConfigError: for another program.
    """

    name: str = "torch-fidelity"
    side: int = 299

    def __post_init__(self) -> None:
        if self.name not in _RULES:
            raise ConfigError(
                f"{self.name!r} is no way to feed Inception; use {' or '.join(_RULES)}"
            )

    def pixels(self, picture: Picture) -> Float32[np.ndarray, "side side 3"]:
        """The resized picture, in [0, 255], on the host.

        Raises:
            DataError: if it cannot be read.
        """
        pixels = to_array(open_picture(picture))
        (top, bottom, down), (left, right, along) = (self._samples(n) for n in pixels.shape[:2])
        upper, lower = (
            _between(pixels[np.ix_(rows, left)], pixels[np.ix_(rows, right)], along[:, None])
            for rows in (top, bottom)
        )
        return _between(upper, lower, down[:, None, None])

    def normalise(self, pixels: Float32[Array, "b H W 3"]) -> Float32[Array, "b H W 3"]:
        """What the network sees, in [-1, 1], on the device."""
        _, middle = _RULES[self.name]
        return (pixels - jnp.float32(middle)) / jnp.float32(middle)

    def _samples(self, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each sample along a side the pixels before and after it, and its place between."""
        half_pixels, _ = _RULES[self.name]
        places = np.arange(self.side, dtype=np.float32)
        scale = np.float32(length / self.side)
        if half_pixels:
            half = np.float32(0.5)
            places = np.maximum((places + half) * scale - half, np.float32(0))
        else:
            places = places * scale
        before = np.minimum(places.astype(np.int64), length - 1)
        after = np.minimum(before + 1, length - 1)
        return before, after, places - before.astype(np.float32)

    def __str__(self) -> str:
        return f"{self.side}x{self.side} bilinear as {self.name}"


def _between(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> Float32[np.ndarray, "..."]:
    first = a.astype(np.float32)
    return first + (b.astype(np.float32) - first) * share


# Whether samples are taken at the middle of each output pixel, and the middle of the range.
_RULES = {"torch-fidelity": (False, 128.0), "pytorch-fid": (True, 127.5)}
