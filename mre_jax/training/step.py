"""One optimizer step, compiled once: encode, predict, differentiate, update, average.

A step whose loss or gradient is not finite changes nothing but the count of such steps in a row.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float32, Int32

from mre_jax.data.batches.batch import Batch
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.unet import UNet
from mre_jax.training import losses
from mre_jax.training.accumulation import Summary, accumulated
from mre_jax.training.config import LossConfig, TrainConfig
from mre_jax.training.inputs import Encoders, Frozen, Inputs, make_inputs
from mre_jax.training.optimizer import make_schedule, updates_made
from mre_jax.training.parallel import Layout
from mre_jax.training.preference import preference_loss
from mre_jax.training.state import Network, Parameters, State, updated

TIME_BINS = 4
SCORE_BINS = 6


class Metrics(NamedTuple):
    """What is known of a step, float32 scalars unless said otherwise.

    Attributes:
        loss: weighted mean over the batch.
        grad_norm: global norm of the gradients before clipping.
        param_norm: global norm of the parameters after the step.
        learning_rate: rate of the step.
        skipped: steps in a row, this one included, that were not finite.
        time_loss, time_count: sum of the unweighted losses, and number, of the examples in each
            quarter of the timesteps.
        score_loss, score_count: likewise for the rounded mean score, 0 to 5, of those with one.
        finite: whether the loss of each example was, in the order of the batch.
    """

    loss: Float32[Array, ""]
    grad_norm: Float32[Array, ""]
    param_norm: Float32[Array, ""]
    learning_rate: Float32[Array, ""]
    skipped: Int32[Array, ""]
    time_loss: Float32[Array, f" {TIME_BINS}"]
    time_count: Float32[Array, f" {TIME_BINS}"]
    score_loss: Float32[Array, f" {SCORE_BINS}"]
    score_count: Float32[Array, f" {SCORE_BINS}"]
    finite: Bool[Array, " b"]


BinnedLoss: TypeAlias = Callable[[Parameters, Frozen, Batch, int], tuple[Array, Array]]
"""Sums and counts of the unweighted losses by quarter of the timesteps, of the batch's examples at
positions below a number."""

Step: TypeAlias = Callable[[State, Frozen, Batch], tuple[State, Metrics]]


def make_step(
    config: TrainConfig,
    unet: Network,
    encoders: Encoders,
    schedule: NoiseSchedule,
    optimizer: optax.GradientTransformation,
    layout: Layout,
) -> Any:
    """The jitted step. It uses up the state it is given.

    Args:
        schedule: of the noise, with the prediction type that is trained.
        optimizer: from `make_optimizer`.
        layout: where state and batch live.
    """
    rate = make_schedule(config.optimizer, config.steps)
    decay = config.model.ema_decay
    # The rounding of the copy is not differentiated: its gradient is that of the parameters.
    loss = functools.partial(_loss, unet=unet, loss=config.loss)
    gradient = jax.value_and_grad(loss, has_aux=True)
    prepare = _preparing(config, encoders, schedule, config.loss)
    bins = functools.partial(_bins, timesteps=schedule.num_train_timesteps)

    def at_once(params: Parameters, frozen: Frozen, batch: Batch) -> tuple[Parameters, Summary]:
        inputs = prepare(batch, frozen)
        (value, errors), grads = gradient(params, inputs, frozen.reference)
        finite = jnp.isfinite(errors * inputs.weight)
        return grads, (value, bins(inputs, errors, batch), finite)

    parts, together = config.optimizer.accumulation, config.loss.together
    gradients = at_once if parts == 1 else accumulated(at_once, parts, layout, together)

    def step(state: State, frozen: Frozen, batch: Batch) -> tuple[State, Metrics]:
        dtype = config.model.compute_dtype
        params = _for_compute(state["params"], dtype, layout)
        if frozen.reference is not None:
            frozen = frozen._replace(reference=_for_compute(frozen.reference, dtype, layout))
        grads, (value, binned, finite) = gradients(params, frozen, batch)
        grads = _for_storage(grads, layout)
        norm = optax.tree.norm(grads)
        new = updated(state, grads, jnp.isfinite(value) & jnp.isfinite(norm), optimizer, decay)
        metrics = Metrics(
            value,
            norm,
            optax.tree.norm(new["params"]),
            jnp.asarray(rate(updates_made(state["optimizer"])), jnp.float32),
            new["skipped"],
            *binned,
            finite,
        )
        # On every device, so that every host can read them.
        metrics = jax.lax.with_sharding_constraint(metrics, layout.replicated)
        return _for_storage(new, layout), metrics

    return jax.jit(step, donate_argnums=0)


def make_loss(
    config: TrainConfig,
    unet: Network,
    encoders: Encoders,
    schedule: NoiseSchedule,
    layout: Layout,
) -> Any:
    """The jitted loss of examples that are not trained on, a `BinnedLoss`; as `make_step`."""
    plain = dataclasses.replace(config.loss, reward_dropout=0.0)
    prepare = _preparing(config, encoders, schedule, plain)

    def loss(params: Parameters, frozen: Frozen, batch: Batch, count: Any) -> tuple[Array, Array]:
        inputs = prepare(batch, frozen)
        params = _for_compute(params, config.model.compute_dtype, layout)
        errors = _errors(params, inputs, unet, config.loss)
        counts = jnp.asarray(batch.positions) < count
        times = _times(inputs, schedule.num_train_timesteps) * counts[:, None].astype(jnp.float32)
        sums = jnp.where(counts, errors, 0) @ times, times.sum(0)
        placed: tuple[Array, Array]
        placed = jax.lax.with_sharding_constraint(sums, layout.replicated)
        return placed

    return jax.jit(loss)


def _preparing(
    config: TrainConfig, encoders: Encoders, schedule: NoiseSchedule, loss: LossConfig
) -> Callable[[Batch, Frozen], Inputs]:
    return functools.partial(
        make_inputs,
        encoders=encoders,
        schedule=schedule,
        loss=loss,
        with_reward=config.model.takes_reward,
    )


def _loss(
    params: Parameters,
    inputs: Inputs,
    reference: Parameters | None,
    *,
    unet: Network,
    loss: LossConfig,
) -> tuple[Float32[Array, ""], Float32[Array, " b"]]:
    """The mean of the weighted errors, or the loss of the pairs; and the errors."""
    errors = _errors(params, inputs, unet, loss)
    if loss.preference is None:
        return jnp.mean(errors * inputs.weight), errors
    assert reference is not None  # noqa: S101  a run's start has made it
    known = _errors(reference, inputs, unet, loss)
    return preference_loss(errors, known, inputs.weight, loss.preference.beta), errors


def _errors(
    params: Parameters, inputs: Inputs, unet: Network, loss: LossConfig
) -> Float32[Array, " b"]:
    network: UNet = unet.module(params)
    output = network(
        inputs.sample, inputs.timesteps, inputs.text, inputs.reward, inputs.image_features
    )
    return losses.errors(output, inputs.target, loss.terms)


def _for_compute(params: Parameters, dtype: str, layout: Layout) -> Parameters:
    """The copy the networks read: matrices cast first, so that only half the bytes are gathered."""

    def copy(x: Array) -> Any:
        x = x.astype(dtype) if x.ndim > 1 else x
        return jax.lax.with_sharding_constraint(x, layout.compute(x))

    copies: Parameters = jax.tree.map(copy, params)
    return copies


def _for_storage(tree: Any, layout: Layout) -> Any:
    """Arrays as they are stored: floats in float32, split as `layout.storage` says."""

    def place(x: Array) -> Any:
        x = x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
        return jax.lax.with_sharding_constraint(x, layout.storage(x))

    return jax.tree.map(place, tree)


def _bins(
    inputs: Inputs, errors: Float32[Array, " b"], batch: Batch, *, timesteps: int
) -> tuple[Array, Array, Array, Array]:
    """Sums and counts of the errors by quarter of the timesteps and by score."""
    times = _times(inputs, timesteps)
    rounded = jnp.rint(jnp.mean(jnp.asarray(batch.scores), axis=-1)).astype(jnp.int32)
    # Without a score no bin: -1 is none.
    scores = jax.nn.one_hot(jnp.where(jnp.asarray(batch.present), rounded, -1), SCORE_BINS)
    return errors @ times, times.sum(0), errors @ scores, scores.sum(0)


def _times(inputs: Inputs, timesteps: int) -> Float32[Array, f"b {TIME_BINS}"]:
    """The quarter of the timesteps that each example is in, one-hot."""
    return jax.nn.one_hot(inputs.timesteps * TIME_BINS // timesteps, TIME_BINS)
