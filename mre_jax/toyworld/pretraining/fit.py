"""The loop that small trainings share: steps over devices, with progress, resumable."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float32

from mre_jax.io.devices import compiler_options
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.optimizer import promoting
from mre_jax.training.parallel import AXES, Layout
from mre_jax.training.run.progress import Progress
from mre_jax.training.state import Parameters, State, abstract_state, fresh_state, updated

Loss = Callable[[Parameters, Any, Array], Float32[Array, ""]]
"""Of (parameters, batch, key)."""

Observed = dict[str, Any]
"""A point of a learning curve, of JSON values."""


class Fitted(NamedTuple):
    """What a fit ends with.

    Attributes:
        params: moving average of the parameters.
        curve: what was observed on the way, in the order of the steps.
    """

    params: Parameters
    curve: list[Observed]


_SAVE_EVERY, _SHOW_EVERY = 1000, 250
_CURVE = "curve"


def fit(
    name: str,
    params: Parameters,
    loss: Loss,
    read: Callable[[int], Any],
    *,
    steps: int,
    rate: float,
    ema_decay: float,
    seed: int,
    folder: Path,
    observe: Callable[[int, Parameters], Observed] | None = None,
    observe_every: int = 1000,
    devices: Sequence[jax.Device] | None = None,
) -> Fitted:
    """Minimises a loss by Adam, the rate rising over 300 steps and falling to a twentieth.

    Args:
        params: initial parameters.
        read: gives the batch of a step, a pytree of NumPy arrays that the devices divide.
        folder: for checkpoints; a fit that was killed goes on from there.
        observe: looks at (steps done, moving average of the parameters).
        observe_every: steps between two looks.
        devices: those that divide a batch; None is all.
    """
    layout = Layout(Mesh(np.asarray(devices or jax.devices()).reshape(-1, 1), AXES), ())
    optimizer = _optimizer(rate, steps)

    def step(state: State, batch: Any, number: Array) -> tuple[State, Array]:
        key = jax.random.fold_in(jax.random.key(seed), number)
        value, grads = jax.value_and_grad(loss)(state["params"], batch, key)
        return updated(state, grads, jax.numpy.isfinite(value), optimizer, ema_decay), value

    run = jax.jit(step, donate_argnums=0, compiler_options=compiler_options())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    checkpoints = Checkpoints(folder, every=_SAVE_EVERY, keep=1)
    restored = checkpoints.restore_newest(abstract_state(shapes, optimizer, layout, ema=True))
    if restored is None:
        placed = jax.device_put(params, layout.replicated)
        state, done, curve = fresh_state(placed, optimizer, layout, ema=True), 0, []
    else:
        state, done, curve = restored.state, restored.step, list(restored.meta[_CURVE])
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
            last = number + 1 == steps
            if observe and (last or (number + 1) % observe_every == 0):
                curve.append(observe(number + 1, _on_one_device(state["ema"])))
            if last or checkpoints.due(number + 1):
                checkpoints.save(number + 1, state, {_CURVE: curve})
    checkpoints.close()
    return Fitted(_on_one_device(state["ema"]), curve)


def _on_one_device(tree: Any) -> Any:
    return jax.device_put(tree, jax.devices()[0])


def _optimizer(rate: float, steps: int) -> optax.GradientTransformation:
    warmup = min(300, steps // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, warmup, steps, rate / 20)
    return promoting(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3))
    )
