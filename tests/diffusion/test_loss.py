"""The loss of an example, and what it counts."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.loss import min_snr_weight, score_weight, squared_error
from mre_jax.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.stable_diffusion()
TIMESTEPS = jnp.asarray([0, 100, 400, 700, 999])


def test_squared_error_is_the_mean_of_each_example():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 3, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(
        squared_error(jnp.asarray(one), jnp.asarray(two)),
        ((one - two) ** 2).reshape(3, -1).mean(1),
        rtol=1e-6,
    )


def test_squared_error_of_bfloat16_is_summed_in_float32():
    """Eight bits of mantissa would stop counting after some hundred pixels."""
    output = jnp.ones((1, 64, 64, 4), jnp.bfloat16)
    error = squared_error(output, jnp.zeros((1, 64, 64, 4), jnp.float32))
    assert error.dtype == jnp.float32
    assert float(error[0]) == 1.0


def test_min_snr_weighs_the_error_of_the_latents_alike_for_every_target():
    """A given error of the latents costs min(snr, gamma), whatever the network predicts."""
    gamma = 5.0
    snr = np.asarray(SCHEDULE.snr(TIMESTEPS))
    assert snr[0] > gamma > snr[-1]
    # The squared error of each target that one of 1 in the latents makes (Hang et al., Eq. 4-6).
    costs = {"epsilon": snr, "v_prediction": snr + 1, "sample": np.ones_like(snr)}
    for target, cost in costs.items():
        schedule = dataclasses.replace(SCHEDULE, prediction_type=target)
        weight = np.asarray(min_snr_weight(schedule, TIMESTEPS, gamma))
        np.testing.assert_allclose(weight * cost, np.minimum(snr, gamma), rtol=1e-5)


def test_min_snr_leaves_noisy_steps_as_they_are():
    weight = np.asarray(min_snr_weight(SCHEDULE, TIMESTEPS, 5.0))
    assert weight[-1] == pytest.approx(1)
    assert (np.diff(weight) >= 0).all()


def test_score_weight_is_linear_and_spares_examples_without_a_score():
    scores = jnp.asarray([[5, 5, 5], [0, 0, 0], [1, 2, 3], [0, 0, 0]], jnp.float32)
    present = jnp.asarray([True, True, True, False])
    np.testing.assert_allclose(score_weight(scores, present), [2, 0, 0.8, 1], rtol=1e-6)
