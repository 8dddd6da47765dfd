"""AdamW with clipping and schedules, against PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mre_jax.training.config import OptimizerConfig
from mre_jax.training.optimizer import make_optimizer, make_schedule, updates_made

STEPS = 12


def config(**settings):
    return OptimizerConfig(**{"learning_rate": 0.1, "max_grad_norm": 1.0, **settings})


def rates(**settings):
    schedule = make_schedule(config(**settings), STEPS)
    return [float(schedule(jnp.int32(step))) for step in range(STEPS + 1)]


def test_schedules():
    assert rates() == pytest.approx([0.1] * 13)
    assert rates(schedule="linear") == pytest.approx([0.1 * (1 - i / 12) for i in range(13)])
    cosine = [0.05 * (1 + np.cos(np.pi * i / 12)) for i in range(13)]
    assert rates(schedule="cosine") == pytest.approx(cosine, abs=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_warm_up_rises_and_hands_over(schedule):
    found = rates(schedule=schedule, warmup_steps=4)
    assert found[:5] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert found[-1] == pytest.approx(0.1 if schedule == "constant" else 0, abs=1e-8)


def test_updates_are_counted():
    optimizer = make_optimizer(config(), STEPS)
    state = optimizer.init({"a": jnp.ones(3)})
    for count in range(3):
        assert int(updates_made(state)) == count
        state = optimizer.update({"a": jnp.ones(3)}, state, {"a": jnp.ones(3)})[1]


@pytest.mark.parametrize(
    ("scale", "limit"),
    [(0.01, 1.0), (10.0, 1.0), (10.0, None)],
    ids=["small gradients", "clipped", "not clipped"],
)
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_updates_are_those_of_pytorch(scale, limit, schedule):
    torch = pytest.importorskip("torch")
    settings = config(schedule=schedule, weight_decay=0.1, beta2=0.99, max_grad_norm=limit)
    optimizer, make_rate = make_optimizer(settings, STEPS), make_schedule(settings, STEPS)
    rng = np.random.default_rng(0)
    params = {name: rng.normal(size=(5, 7)).astype(np.float32) for name in "ab"}
    theirs = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in params.items()}
    reference = torch.optim.AdamW(
        theirs.values(), lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1
    )
    ours = jax.tree.map(jnp.asarray, params)
    state = optimizer.init(ours)
    for step in range(STEPS):
        grads = {name: (scale * rng.normal(size=(5, 7))).astype(np.float32) for name in "ab"}
        changes, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
        ours = optax.apply_updates(ours, changes)
        for name, parameter in theirs.items():
            parameter.grad = torch.tensor(grads[name])
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(theirs.values(), limit)
        reference.param_groups[0]["lr"] = float(make_rate(step))
        reference.step()
    for name, parameter in theirs.items():
        np.testing.assert_allclose(ours[name], parameter.detach(), rtol=1e-5, atol=1e-5)


def test_the_reward_has_a_rate_of_its_own():
    params = {name: np.ones(2, np.float32) for name in ("reward.encoder.bias", "conv_in.bias")}

    def first_update(scale: float) -> dict[str, np.ndarray]:
        optimizer = make_optimizer(config(reward_rate_scale=scale), 10)
        return optimizer.update(params, optimizer.init(params), params)[0]

    alone, scaled = first_update(1.0), first_update(3.0)
    np.testing.assert_allclose(scaled["reward.encoder.bias"], 3 * alone["reward.encoder.bias"])
    np.testing.assert_array_equal(scaled["conv_in.bias"], alone["conv_in.bias"])
