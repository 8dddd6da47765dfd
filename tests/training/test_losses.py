"""What is minimised: registered terms and weights, and what a new one takes."""

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.loss import min_snr_weight, score_weight, squared_error
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.training import losses
from mre_jax.training.config import LossConfig
from tests.training.states import same_bits
from tests.training.tiny_run import TinyRun


def absolute_error(output, target):
    """A term of somebody's own."""
    return jnp.mean(jnp.abs(output - target), axis=(1, 2, 3))


@pytest.fixture
def weighed():
    scores = jnp.asarray([[5.0, 4, 3], [1, 1, 1], [0, 0, 0]])
    present = jnp.asarray([True, True, False])
    schedule = NoiseSchedule.stable_diffusion()
    return losses.Weighed(schedule, jnp.asarray([10, 500, 999]), scores, present)


def test_weights_are_those_of_the_settings(weighed):
    np.testing.assert_array_equal(losses.weights(weighed, LossConfig()), 1)
    snr = min_snr_weight(weighed.schedule, weighed.timesteps, 5.0)
    score = score_weight(weighed.scores, weighed.present)
    both = losses.weights(weighed, LossConfig(min_snr_gamma=5.0, score_weighting="linear"))
    np.testing.assert_allclose(both, snr * score, rtol=1e-6)
    assert len(set(np.asarray(both).tolist())) == 3


def test_a_new_weight_is_a_line(weighed, monkeypatch):
    monkeypatch.setitem(losses.WEIGHTS, "reward_dropout", lambda x, share: x.scores[:, 0] * share)
    found = losses.weights(weighed, LossConfig(reward_dropout=0.5))
    np.testing.assert_allclose(found, [2.5, 0.5, 0])


def test_a_new_term_is_a_function_and_a_line(monkeypatch):
    """It goes through a configuration and a whole step of training."""
    monkeypatch.setitem(losses.TERMS, "absolute_error", absolute_error)
    runs = {
        name: TinyRun(loss__terms=terms)
        for name, terms in {
            "plain": {"squared_error": 1},
            "both": {"squared_error": 1, "absolute_error": 0.1},
            "absolute": {"absolute_error": 0.1},
        }.items()
    }
    states, told = {}, {}
    for name, run in runs.items():
        states[name], (metrics,) = run.train_steps(1)
        told[name] = float(metrics.loss)
    assert told["both"] == pytest.approx(told["plain"] + told["absolute"], rel=1e-5)
    assert not same_bits(states["both"]["params"], states["plain"]["params"])


def test_the_default_is_the_papers_loss():
    output = jnp.linspace(-1, 1, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    found = losses.errors(output, output**2, LossConfig().terms)
    np.testing.assert_array_equal(found, squared_error(output, output**2))
