"""The loop that both stages share: steps over all devices, with progress, resumable."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array, Float32, Int

from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.optimizer import promoting
from mre_jax.training.parallel import AXES, Layout
from mre_jax.training.run.progress import Progress
from mre_jax.training.state import Parameters, State, abstract_state, fresh_state, updated

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
        params: initial parameters, a pytree.
        read: gives the batch of a step, a pytree of NumPy arrays that the devices divide.
        folder: for checkpoints; a fit that was killed goes on from there.

    Returns:
        The moving average of the parameters.
    """
    layout = Layout(Mesh(np.asarray(jax.devices()).reshape(-1, 1), AXES), ())
    optimizer = _optimizer(rate, steps)
    leaves, tree = jax.tree.flatten(params)
    named = {str(number): leaf for number, leaf in enumerate(leaves)}  # as a state has them

    def nested(named: Parameters) -> Any:
        return jax.tree.unflatten(tree, [named[str(number)] for number in range(len(leaves))])

    def named_loss(named: Parameters, batch: Any, key: Array) -> Float32[Array, ""]:
        return loss(nested(named), batch, key)

    def step(state: State, batch: Any, number: Array) -> tuple[State, Array]:
        key = jax.random.fold_in(jax.random.key(seed), number)
        value, grads = jax.value_and_grad(named_loss)(state["params"], batch, key)
        return updated(state, grads, jax.numpy.isfinite(value), optimizer, ema_decay), value

    run = jax.jit(step, donate_argnums=0)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), named)
    checkpoints = Checkpoints(folder, every=_SAVE_EVERY, keep=1)
    restored = checkpoints.restore_newest(abstract_state(shapes, optimizer, layout, ema=True))
    if restored is None:
        placed = jax.device_put(named, layout.replicated)
        state, done = fresh_state(placed, optimizer, layout, ema=True), 0
    else:
        state, done = restored.state, restored.step
    losses = []
    with contextlib.closing(Progress(name, steps, done, shown=True)) as progress:
        for number in range(done, steps):
            batch = jax.device_put(read(number), layout.batch)
            state, value = run(state, batch, np.int32(number))
            losses.append(value)
            progress.step()
            if len(losses) == _SHOW_EVERY:
                progress.row(number + 1, {"loss": float(np.mean(jax.device_get(losses)))})
                losses = []
            if checkpoints.due(number + 1) or number + 1 == steps:
                checkpoints.save(number + 1, state, {})
    checkpoints.close()
    return nested(jax.device_put(state["ema"], jax.devices()[0]))


def _optimizer(rate: float, steps: int) -> optax.GradientTransformation:
    warmup = min(300, steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps, rate / 20)
    return promoting(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3))
    )


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
