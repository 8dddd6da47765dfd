import types

import jax
import jax.numpy as jnp
import pytest

from mre_jax.models.unet import UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training.flops import count, forward, peak, training

TINY = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
}
REWARD = {"score_width": 6, "num_attention_heads": 2}
TOKENS = 5
PLAIN = 1_811_648  # of TINY with one layer a block, at 7x5


@pytest.mark.parametrize(("side", "gigaflops"), [(32, 180.1), (64, 803.4)])
def test_a_forward_pass_of_stable_diffusion(side, gigaflops):
    assert forward(UNetConfig(), side, side) / 1e9 == pytest.approx(gigaflops, rel=0.001)
    # Measured with the backward pass: 537.4 and 2407 GFLOP.
    measured = {32: 537.4, 64: 2407}[side]
    assert training(UNetConfig(), side, side) / 1e9 == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(
    ("config", "flops"),
    [
        ({}, 2_586_688),
        ({"layers_per_block": 1, "use_linear_projection": True}, 1_811_648),
        (
            {
                "block_out_channels": (8, 8, 16),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            },
            1_494_848,
        ),
    ],
)
def test_the_count_is_the_sum_over_the_layers(config, flops):
    """Against sums by a formula for each kind of layer."""
    size = (7, 5)  # rounded up on the way down, cut on the way up
    assert forward(UNetConfig(**TINY | config), *size, text_tokens=TOKENS) == flops


@pytest.mark.parametrize("form", ["paper", "released"])
@pytest.mark.parametrize("off", [None, "score", "text", "attention", "addition"])
def test_the_reward_adds_its_layers(form, off):
    sizes = {**TINY, "layers_per_block": 1}
    reward = RewardConfig(form=form, **REWARD, **({} if off is None else {off: False}))
    plain, config = UNetConfig(**sizes), UNetConfig(**sizes, reward=reward)
    added = by_hand(config, reward, pixels=35)
    assert forward(config, 7, 5, text_tokens=TOKENS) == PLAIN + added
    assert forward(plain, 7, 5, text_tokens=TOKENS) == PLAIN


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
    ],
)
def test_peaks(kind, teraflops):
    assert peak(types.SimpleNamespace(device_kind=kind)) == teraflops * 1e12


def test_no_peak_is_made_up():
    assert peak(jax.devices("cpu")[0]) is None
    assert peak(types.SimpleNamespace(device_kind="NVIDIA GeForce GTX 1080")) is None


def test_every_kind_of_product_is_counted():
    def program(x, kernel):
        def step(x, _):
            return x @ kernel[0, 0], None

        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.lax.scan(step, y, length=4)[0] + jnp.sum(y)

    jaxpr = jax.make_jaxpr(program)(jnp.zeros((1, 6, 5, 8)), jnp.zeros((3, 3, 8, 8))).jaxpr
    positions = 3 * 3
    assert count(jaxpr) == 2 * 8 * 8 * positions * (9 + 4)


def by_hand(config, reward, pixels):
    """Operations of the reward condition, layer by layer."""

    def dense(inputs, outputs, positions=1):
        return 2 * inputs * outputs * positions

    released = reward.form == "released"
    width, channels = config.cross_attention_dim, config.block_out_channels[0]
    total = 0
    # In the released form scores and text enter separately at either place.
    places = [config.time_width] * reward.addition + [channels] * reward.attention
    for place in places if released else [width]:
        if reward.score:
            total += dense(3 * reward.score_width, place) + dense(place, place)
        if reward.text and released:
            total += dense(width, place)
    if reward.attention:
        tokens = reward.score + reward.text * (1 if released else TOKENS)
        total += 0 if released else dense(width, channels, tokens)
        # 1x1 convolutions, query and output, and the two layers after them; keys and values.
        total += dense(channels, channels, 6 * pixels) + dense(channels, channels, 2 * tokens)
        total += 2 * 2 * channels * pixels * tokens
    if reward.addition and not released:
        total += dense(width, sum(config.block_channels))
    return total
