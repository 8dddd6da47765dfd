"""From a text-to-image UNet to an editor: more input channels, which at first change nothing.

An editor's UNet sees the original image's latents after the noisy ones. The new channels get zero
weights and the bias stays, so that the first forward equals the base model's (InstructPix2Pix,
section 3.2; the released code and diffusers' training script lose the bias here).
"""

import numpy as np

from mre_jax.errors import DataError
from mre_jax.weights.files.source import Change, TensorSource, View

CONV_IN = "conv_in.weight"

# What of Stable Diffusion takes so many. Its channels beyond the latents are of another meaning.
_KINDS = {5: " (a depth model)", 7: " (an upscaler)", 9: " (an inpainting model)"}


class ChannelsError(DataError):
    """A UNet takes more input channels than it shall, or others.

    Attributes:
        origin: where it comes from.
        stored: how many it takes.
    """

    def __init__(self, origin: str, stored: int, channels: int):
        super().__init__(
            f"{origin} takes {stored} input channels{_KINDS.get(stored, '')} and cannot be made to "
            f"take {channels}; use --in-channels {stored}"
        )
        self.origin, self.stored = origin, stored


def input_channels(source: TensorSource) -> int | None:
    """What a UNet's `conv_in` takes; None where there is none."""
    info = source.tensors.get(CONV_IN)
    return info.shape[1] if info is not None and len(info.shape) == 4 else None


def with_input_channels(source: TensorSource, channels: int) -> TensorSource:
    """A UNet's tensors with `conv_in` taking `channels`; `source` itself if it already does.

    Raises:
        DataError: when there is no `conv_in`.
        ChannelsError: when it takes more channels than that, or is a model of another kind.
    """
    info = source.tensors.get(CONV_IN)
    if info is None or len(info.shape) != 4:
        raise DataError(f"{source.origin} holds no convolution {CONV_IN}: it is not a UNet")
    out, stored, *kernel = info.shape
    if stored == channels:
        return source
    if stored > channels or stored in _KINDS:
        raise ChannelsError(source.origin, stored, channels)

    def padded(weight: np.ndarray) -> np.ndarray:
        zeros = np.zeros((out, channels - stored, *kernel), weight.dtype)
        return np.concatenate([weight, zeros], axis=1)

    change = Change((out, channels, *kernel), padded)
    return View(source, {name: name for name in source.tensors}, {CONV_IN: change})
