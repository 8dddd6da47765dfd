"""AdamW as the released code has it, after the gradient's norm is clipped."""

import functools

import jax
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Int32

from mre_jax.training.config import OptimizerConfig


def make_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate by step, from 0: linear warm-up, then constant, cosine or linear to 0."""
    warmup, rate = config.warmup_steps, config.learning_rate
    after = {
        "constant": optax.constant_schedule(rate),
        "cosine": optax.cosine_decay_schedule(rate, max(steps - warmup, 1)),
        "linear": optax.linear_schedule(rate, 0.0, max(steps - warmup, 1)),
    }[config.schedule]
    if warmup:
        after = optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])

    def schedule(count: ArrayLike) -> ArrayLike:
        with jax.numpy_dtype_promotion("standard"):
            rate: ArrayLike = after(count)
            return rate

    return schedule


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Clipping to `max_grad_norm`, if any, then AdamW, whose decay is decoupled (as in PyTorch).

    Args:
        steps: steps of the whole run, for schedules that end.
    """
    limit = config.max_grad_norm
    chain = optax.chain(
        # Either has an empty state: a checkpoint does not depend on it.
        optax.identity() if limit is None else optax.clip_by_global_norm(limit),
        optax.adamw(
            make_schedule(config, steps),
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
        ),
        optax.stateless(functools.partial(_scale_reward, factor=config.reward_rate_scale)),
    )

    return promoting(chain)


def promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """An optimizer of Optax, which counts in integers and multiplies them with floats."""

    def update(
        grads: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, params)
            return updates, state

    return optax.GradientTransformation(optimizer.init, update)


def _scale_reward(
    updates: optax.Updates, params: optax.Params | None, *, factor: float
) -> optax.Updates:
    """Multiplies the updates of the reward's parts, which have a rate of their own."""
    return {
        name: update * factor if name.removeprefix("unet.").startswith("reward.") else update
        for name, update in updates.items()
    }


def updates_made(state: optax.OptState) -> Int32[Array, ""]:
    """How often an optimizer's state of `make_optimizer` was updated."""
    count: Array = optax.tree.get_all_with_path(state, "count")[0][1]
    return count
