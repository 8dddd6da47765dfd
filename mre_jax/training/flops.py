"""Arithmetic of the UNet, counted from its configuration, and what devices can do at best.

Two operations per multiplication with addition, in convolutions, dense layers and attention; norms
and activations are left out, as is usual for a share of the peak.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.reward.scores import PERSPECTIVES

TEXT_TOKENS = 77

# bfloat16 operations a second of one device, dense, as their makers state them.
_PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "A100": 312e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
}


@dataclasses.dataclass(frozen=True)
class Flops:
    """Operations for one example.

    Attributes:
        conv: in convolutions of more than one pixel.
        dense: in layers that act on each position alone.
        attention: in products of queries, keys and values.
    """

    conv: float = 0.0
    dense: float = 0.0
    attention: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.conv + self.dense + self.attention

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(
            self.conv + other.conv, self.dense + other.dense, self.attention + other.attention
        )


def forward(
    config: UNetConfig, height: int, width: int, *, text_tokens: int = TEXT_TOKENS
) -> Flops:
    """Of one example's way through the UNet.

    Args:
        config: sizes, and the reward condition.
        height, width: of the latents.
        text_tokens: of the prompt.
    """
    return sum(_parts(config, height, width, text_tokens), Flops())


def training(config: UNetConfig, height: int, width: int) -> float:
    """Of one example's forward and backward pass: three times the forward pass.

    The gradient with respect to the latents, which nobody needs, is counted too (0.5 % of SD1.5).
    """
    return 3 * forward(config, height, width).total


def peak(device: Any) -> float | None:
    """bfloat16 operations a second that a device can do at best; None if it is not known.

    Args:
        device: a `jax.Device`, or whatever has its `device_kind`.
    """
    kind = str(device.device_kind)
    matches = [name for name in _PEAKS if kind.removeprefix("NVIDIA ").startswith(name)]
    return _PEAKS[max(matches, key=len)] if matches else None


def _parts(config: UNetConfig, height: int, width: int, text_tokens: int) -> Iterator[Flops]:
    """The UNet's parts in the order of the computation."""
    widths, per_block = config.block_out_channels, config.layers_per_block
    h, w = height, width

    def units(kind: str, inputs: list[int], channels: int) -> Iterator[Flops]:
        for inputs_ in inputs:
            yield _resnet(inputs_, channels, h * w, config.time_width)
            if kind.startswith("CrossAttn"):
                yield _transformer(channels, h * w, text_tokens, config.cross_attention_dim)

    yield _conv(config.in_channels, widths[0], h * w)
    yield _mlp(widths[0], config.time_width)
    if config.reward is not None and config.reward.enabled:
        yield _reward(config, config.reward, h * w, text_tokens)

    grids, skips = [(h, w)], [widths[0]]
    for kind, channels in zip(config.down_block_types, widths, strict=True):
        yield from units(kind, [skips[-1]] + [channels] * (per_block - 1), channels)
        skips += [channels] * per_block
        if len(grids) < len(widths):  # a convolution of stride 2
            h, w = -(-h // 2), -(-w // 2)
            yield _conv(channels, channels, h * w)
            grids.append((h, w))
            skips.append(channels)

    yield from units("CrossAttn", [widths[-1]], widths[-1])
    yield from units("", [widths[-1]], widths[-1])

    below = widths[-1]
    for kind, channels in zip(config.up_block_types, reversed(widths), strict=True):
        h, w = grids.pop()
        hidden = [below] + [channels] * per_block
        yield from units(kind, [size + skips.pop() for size in hidden], channels)
        if grids:  # enlarged, then a convolution
            h, w = grids[-1]
            yield _conv(channels, channels, h * w)
        below = channels

    yield _conv(widths[0], config.out_channels, h * w)


def _resnet(inputs: int, channels: int, pixels: int, time_width: int) -> Flops:
    parts = _conv(inputs, channels, pixels) + _conv(channels, channels, pixels)
    parts += _dense(time_width, channels)
    return parts if inputs == channels else parts + _dense(inputs, channels, pixels)


def _transformer(channels: int, pixels: int, text_tokens: int, text_width: int) -> Flops:
    projections = _dense(channels, channels, 2 * pixels)
    itself = _dense(channels, channels, 4 * pixels) + _attention(channels, pixels, pixels)
    text = _dense(channels, channels, 2 * pixels) + _dense(text_width, channels, 2 * text_tokens)
    text += _attention(channels, pixels, text_tokens)
    # GEGLU makes twice the inner width, of which one half gates the other.
    feed_forward = _dense(channels, 8 * channels, pixels) + _dense(4 * channels, channels, pixels)
    return projections + itself + text + feed_forward


def _reward(config: UNetConfig, reward: RewardConfig, pixels: int, text_tokens: int) -> Flops:
    released = reward.form == "released"
    width, channels = config.cross_attention_dim, config.block_out_channels[0]
    features = len(PERSPECTIVES) * reward.score_width
    parts = Flops()
    # In the released form scores and text enter separately at either place.
    places = [config.time_width] * reward.addition + [channels] * reward.attention
    for place in places if released else [width]:
        if reward.score:
            parts += _mlp(features, place)
        if reward.text and released:
            parts += _dense(width, place)
    if reward.attention:
        tokens = int(reward.score) + reward.text * (1 if released else text_tokens)
        parts += Flops() if released else _dense(width, channels, tokens)
        # 1x1 convolutions, query and output, and the two layers after them; keys and values.
        parts += _dense(channels, channels, 6 * pixels) + _dense(channels, channels, 2 * tokens)
        parts += _attention(channels, pixels, tokens)
    if reward.addition and not released:
        parts += _dense(width, sum(config.block_channels))
    return parts


def _conv(inputs: int, outputs: int, pixels: int) -> Flops:
    """3x3; `pixels` of the result."""
    return Flops(conv=2 * 9 * inputs * outputs * pixels)


def _dense(inputs: int, outputs: int, positions: int = 1) -> Flops:
    return Flops(dense=2 * inputs * outputs * positions)


def _mlp(inputs: int, outputs: int) -> Flops:
    return _dense(inputs, outputs) + _dense(outputs, outputs)


def _attention(channels: int, queries: int, keys: int) -> Flops:
    return Flops(attention=2 * 2 * channels * queries * keys)
