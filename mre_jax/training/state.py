"""The state of a run: all that a checkpoint holds and a step changes.

step        optimizer steps tried so far, int32; with the seed it decides data and noise
params      the network's parameters, float32, by dotted path
ema         their moving average, or nothing
optimizer   optax's state
skipped     steps in a row, up to now, whose loss or gradient was not finite, int32
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool

from mre_jax.training.optimizer import updates_made
from mre_jax.training.parallel import Layout

Parameters: TypeAlias = dict[str, jax.Array]
"""Arrays by dotted path: "down_blocks.0.resnets.0.conv1.kernel"."""

State: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """All of a module but its arrays.

    Attributes:
        graph: its static half.
        variables: its parameters' paths and types, with abstract values.
    """

    graph: nnx.GraphDef[Any]
    variables: tuple[tuple[tuple[Any, ...], nnx.Variable[Any]], ...]

    @classmethod
    def of(cls, module: nnx.Module) -> "Network":
        """Of a module that may be abstract, from `nnx.eval_shape`."""
        graph, state = nnx.split(module)
        return cls(graph, tuple(nnx.to_flat_state(state)))

    @property
    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every parameter."""
        return {
            name: jax.ShapeDtypeStruct(variable.shape, variable.dtype)
            for name, variable in zip(self.names, (v for _, v in self.variables), strict=True)
        }

    @property
    def names(self) -> list[str]:
        """Dotted paths of the parameters."""
        return [".".join(map(str, path)) for path, _ in self.variables]

    def module(self, parameters: Mapping[str, Any]) -> Any:
        """The module with these arrays; it shares none of its variables with another."""
        state = nnx.from_flat_state(
            [
                (path, variable.replace(parameters[name]))
                for name, (path, variable) in zip(self.names, self.variables, strict=True)
            ]
        )
        return nnx.merge(self.graph, state)


def parameters_of(module: nnx.Module) -> Parameters:
    """The arrays of a module, by dotted path."""
    flat = nnx.to_flat_state(nnx.split(module)[1])
    return {".".join(map(str, path)): variable[...] for path, variable in flat}


def abstract_state(
    params: dict[str, jax.ShapeDtypeStruct],
    optimizer: optax.GradientTransformation,
    layout: Layout,
    *,
    ema: bool,
) -> State:
    """Shape, dtype and sharding of every array of a run's state."""
    shapes = jax.eval_shape(lambda p: _fresh(p, optimizer, ema), params)
    placed: State = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout.storage(x)), shapes
    )
    return placed


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
    state: State = make(params)
    return state


def updated(
    state: State,
    grads: Parameters,
    finite: Bool[Array, ""],
    optimizer: optax.GradientTransformation,
    ema_decay: float | None,
) -> State:
    """The state after a step; where it is not `finite`, only the counts have changed.

    Args:
        grads: gradients of the loss, as the parameters are stored.
        optimizer: from `make_optimizer`, or another that counts its updates.
        ema_decay: decay of the moving average, which rises to it as (1 + n) / (10 + n) with the n
            updates before; the first update replaces the average, as in diffusers' `EMAModel`.
    """
    changes, moments = optimizer.update(grads, state["optimizer"], state["params"])
    params: Any = optax.apply_updates(state["params"], changes)
    average = state["ema"]
    if ema_decay is not None:
        n = updates_made(state["optimizer"]).astype(jnp.float32)
        weight = 1 - jnp.minimum(ema_decay, jnp.where(n > 0, (1 + n) / (10 + n), 0.0))
        average = jax.tree.map(lambda a, p: a + weight * (p - a), average, params)
    before = {name: state[name] for name in ("params", "ema", "optimizer")}
    after = {"params": params, "ema": average, "optimizer": moments}
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
    skipped = jnp.where(finite, 0, state["skipped"] + 1)
    return {**kept, "step": state["step"] + 1, "skipped": skipped}


def _fresh(params: Any, optimizer: optax.GradientTransformation, ema: bool) -> State:
    return {
        "step": jnp.zeros((), jnp.int32),
        "params": params,
        # A copy: a buffer that stands twice in the state could be given away only once.
        "ema": jax.tree.map(jnp.copy, params) if ema else {},
        "optimizer": optimizer.init(params),
        "skipped": jnp.zeros((), jnp.int32),
    }
