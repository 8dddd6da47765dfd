"""The state of a run: all that a checkpoint holds and a step changes.

step        optimizer steps tried so far, int32; with the seed it decides data and noise
params      the network's parameters, float32, by dotted path
ema         their moving average, or nothing
optimizer   optax's state
skipped     steps in a row, up to now, whose loss or gradient was not finite, int32
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax

from mre_jax.training.network import Parameters
from mre_jax.training.parallel import Layout

State: TypeAlias = dict[str, Any]


def abstract_state(
    params: dict[str, jax.ShapeDtypeStruct],
    optimizer: optax.GradientTransformation,
    layout: Layout,
    *,
    ema: bool,
) -> State:
    """Shape, dtype and sharding of every array of a run's state."""
    shapes = jax.eval_shape(lambda p: _fresh(p, optimizer, ema), params)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.storage(x)), shapes
    )


def fresh_state(
    params: Parameters, optimizer: optax.GradientTransformation, layout: Layout, *, ema: bool
) -> State:
    """The state before the first step.

    Args:
        params: placed as `layout.storage` says; they are used up.
        ema: whether to keep a moving average, which starts at the parameters.
    """
    abstract = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in params.items()}
    shardings = jax.tree.map(
        lambda x: x.sharding, abstract_state(abstract, optimizer, layout, ema=ema)
    )
    make = jax.jit(lambda p: _fresh(p, optimizer, ema), out_shardings=shardings, donate_argnums=0)
    return make(params)


def _fresh(params: Any, optimizer: optax.GradientTransformation, ema: bool) -> State:
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        # A copy: a buffer that stands twice in the state could be given away only once.
        "ema": jax.tree.map(jnp.copy, params) if ema else {},
        "optimizer": optimizer.init(params),
        "skipped": jnp.zeros((), jnp.int32),
    }
