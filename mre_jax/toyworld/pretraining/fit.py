"""The loop that both stages share: steps over all devices, with progress, resumable."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float32, Int

from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.run.progress import Progress

Loss = Callable[[Any, Any, Array], Float32[Array, ""]]
"""Of (parameters, batch, key)."""

_SAVE_EVERY, _SHOW_EVERY = 1000, 250


def fit(
    name: str,
    params: Any,
    loss: Loss,
    read: Callable[[int], Any],
    *,
    steps: int,
    rate: float,
    ema_decay: float,
    seed: int,
    folder: Path,
) -> Any:
    """Minimises a loss by Adam, the rate rising over 300 steps and falling to a twentieth.

    Args:
        params: initial, a pytree.
        read: a pytree of NumPy arrays for a step, which the number of devices divides.
        folder: for checkpoints; a fit that was killed goes on from there.

    Returns:
        The moving average of the parameters.
    """
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    everywhere, split = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in ((), ("data",)))
    warmup = min(300, steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps, rate / 20)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3)
    )

    @jax.jit
    def fresh(params: Any) -> dict[str, Any]:
        average = jax.tree.map(lambda x: x + 0, params)
        return {"params": params, "average": average, "optimizer": optimizer.init(params)}

    def update(state: dict[str, Any], batch: Any, step: Array) -> tuple[dict[str, Any], Array]:
        key = jax.random.fold_in(jax.random.key(seed), step)
        value, grads = jax.value_and_grad(loss)(state["params"], batch, key)
        with jax.numpy_dtype_promotion("standard"):  # Optax multiplies its counts with floats.
            changes, moments = optimizer.update(grads, state["optimizer"], state["params"])
        params: Any = optax.apply_updates(state["params"], changes)
        weight = 1 - jax.numpy.minimum(ema_decay, (1 + step) / (10 + step))
        average = jax.tree.map(lambda a, p: a + weight * (p - a), state["average"], params)
        return {"params": params, "average": average, "optimizer": moments}, value

    run = jax.jit(update, donate_argnums=0)
    state = fresh(jax.device_put(params, everywhere))
    abstract = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), state
    )
    checkpoints = Checkpoints(folder, every=_SAVE_EVERY, keep=1)
    restored = checkpoints.restore_newest(abstract)
    done = 0 if restored is None else restored.step
    state = state if restored is None else restored.state
    losses = []
    with contextlib.closing(Progress(name, steps, done, shown=True)) as progress:
        for step in range(done, steps):
            batch = jax.device_put(read(step), split)
            state, value = run(state, batch, np.int32(step))
            losses.append(value)
            progress.step()
            if len(losses) == _SHOW_EVERY:
                progress.row(step + 1, {"loss": np.mean(jax.device_get(losses))})
                losses = []
            if checkpoints.due(step + 1) or step + 1 == steps:
                checkpoints.save(step + 1, state, {})
    checkpoints.close()
    return jax.device_put(state["average"], jax.devices()[0])


def draw_rows(
    seed: int, stage: int, step: int, count: int, size: int
) -> tuple[Int[np.ndarray, " b"], bool]:
    """Which of `count` examples a step reads, and whether it reads them mirrored."""
    rng = np.random.default_rng((seed, stage, step))
    return rng.integers(0, count, size), bool(rng.random() < 0.5)


def parameters(module: nnx.Module) -> tuple[Any, Any]:
    """The static half of a module, and its arrays as a pure pytree."""
    graph, state = nnx.split(module)
    return graph, nnx.to_pure_dict(state)
