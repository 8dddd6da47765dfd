"""Arithmetic of the UNet, counted in its traced program, and what devices can do at best.

Two operations per multiplication with addition, in convolutions, dense layers and attention; norms
and activations are left out, as is usual for a share of the peak.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RewardInputs
from mre_jax.models.unet import UNet, UNetConfig
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


def forward(config: UNetConfig, height: int, width: int, *, text_tokens: int = TEXT_TOKENS) -> int:
    """Operations of one example's way through the UNet.

    Args:
        config: sizes, and the reward condition.
        height, width: sides of the latents.
        text_tokens: tokens of the prompt and of the reward text.
    """
    compute = Compute(attention="plain")
    graph, state = nnx.split(
        nnx.eval_shape(lambda: UNet(config, compute=compute, rngs=make_rngs(0)))
    )

    def run(state: Any, *inputs: Any) -> Array:
        unet: UNet = nnx.merge(graph, state)
        return unet(*inputs)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    features = config.cross_attention_dim
    states = array(text_tokens, features)
    reward = RewardInputs(array(len(PERSPECTIVES)), states, array(features))  # type: ignore
    sample = array(height, width, config.in_channels)
    return count(jax.make_jaxpr(run)(state, sample, array(), states, reward).jaxpr)


def training(config: UNetConfig, height: int, width: int) -> int:
    """Operations of one example's forward and backward pass: three times the forward pass.

    The gradient with respect to the latents, which nobody needs, is counted too (0.5 % of SD1.5).
    """
    return 3 * forward(config, height, width)


def peak(device: Any) -> float | None:
    """bfloat16 operations a second that a device can do at best; None if it is not known.

    Args:
        device: a `jax.Device`, or whatever has its `device_kind`.
    """
    kind = str(device.device_kind)
    matches = [name for name in _PEAKS if kind.removeprefix("NVIDIA ").startswith(name)]
    return _PEAKS[max(matches, key=len)] if matches else None


def count(jaxpr: Any) -> int:
    """Operations of a traced program and of the programs within it."""
    total = 0
    for equation in jaxpr.eqns:
        parameters = equation.params
        shapes = [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]
        match equation.primitive.name:
            case "dot_general":
                (contracted, _), _ = parameters["dimension_numbers"]
                total += 2 * math.prod(shapes[2]) * math.prod(shapes[0][i] for i in contracted)
            case "conv_general_dilated":
                kernel = parameters["dimension_numbers"].rhs_spec  # outputs, inputs, then space
                total += 2 * math.prod(shapes[2]) * math.prod(shapes[1][i] for i in kernel[1:])
        times = parameters["length"] if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(parameters, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            total += times * count(inner) if hasattr(inner, "eqns") else 0
    return total
