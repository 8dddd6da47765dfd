import math
import types

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RewardInputs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.training.flops import forward, peak, training

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


@pytest.mark.parametrize(("side", "gigaflops"), [(32, 180.1), (64, 803.4)])
def test_a_forward_pass_of_stable_diffusion(side, gigaflops):
    assert forward(UNetConfig(), side, side).total / 1e9 == pytest.approx(gigaflops, rel=0.001)
    # Measured with the backward pass: 537.4 and 2407 GFLOP.
    measured = {32: 537.4, 64: 2407}[side]
    assert training(UNetConfig(), side, side) / 1e9 == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(**TINY),
        UNetConfig(**{**TINY, "layers_per_block": 1, "use_linear_projection": True}),
        UNetConfig(
            **{
                **TINY,
                "block_out_channels": (8, 8, 16),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            }
        ),
        *(
            UNetConfig(
                **{**TINY, "layers_per_block": 1},
                reward=RewardConfig(form=form, **switches, **REWARD),
            )
            for form in ("paper", "released")
            for switches in (
                {},
                {"score": False},
                {"text": False},
                {"attention": False},
                {"addition": False},
            )
        ),
    ],
    ids=lambda config: "reward" if config.reward else "plain",
)
def test_the_count_is_that_of_the_program(config):
    size = (7, 5)  # rounded up on the way down, cut on the way up
    assert forward(config, *size, text_tokens=TOKENS).total == traced(config, size)


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


def traced(config, size):
    """Operations of the traced forward pass of one example."""
    compute = Compute(attention="plain")
    graph, state = nnx.split(
        nnx.eval_shape(lambda: UNet(config, compute=compute, rngs=make_rngs(0)))
    )
    width = config.cross_attention_dim
    states = jnp.zeros((1, TOKENS, width))
    reward = RewardInputs(jnp.zeros((1, 3)), states, jnp.zeros((1, width)))

    def run(state, sample):
        return nnx.merge(graph, state)(sample, jnp.zeros(1), states, reward)

    return count(jax.make_jaxpr(run)(state, jnp.zeros((1, *size, config.in_channels))).jaxpr)


def count(jaxpr):
    total = 0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        shapes = [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            total += 2 * math.prod(shapes[2]) * math.prod(shapes[0][i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = parameters["dimension_numbers"].rhs_spec  # out, in, then space
            per_output = math.prod(shapes[1][i] for i in kernel[1:])
            total += 2 * math.prod(shapes[2]) * per_output
        for inner in jax.tree.leaves(parameters, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            total += count(inner) if hasattr(inner, "eqns") else 0
    return total
