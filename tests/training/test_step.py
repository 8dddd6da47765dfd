"""One optimizer step: what it changes, what it must not change, and what it tells."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.tiny_unet import make_unet
from tests.training.figures import Figures
from tests.training.states import same_bits
from tests.training.tiny_run import (
    BATCH,
    SMALL,
    TinyRun,
    largest_difference,
    make_batch,
    poisoned,
    tiny_run,
)

MUST_NOT_CHANGE = ("params", "ema", "optimizer")


@pytest.fixture(scope="module")
def base():
    return tiny_run()


@pytest.fixture(scope="module")
def trained(base):
    """State and metrics after three steps."""
    return base.train_steps(3)


def test_r10_a_step_that_is_not_finite_changes_nothing(base):
    """As if its batch had never been read: parameters, average, moments and learning rate."""
    figures = Figures("R10")
    batches = [base.batch(step) for step in range(5)]
    state, told = base.train([*batches[:2], *map(poisoned, batches[2:4]), batches[4]])
    clean, _ = base.train([*batches[:2], batches[4]])
    assert [int(m.skipped) for m in told] == [0, 0, 1, 2, 0]
    assert not np.isfinite(told[2].loss)
    for metrics, bad in zip(told, (0, 0, 1, 1, 0), strict=True):  # `poisoned` spoils the second
        np.testing.assert_array_equal(metrics.finite, (np.arange(BATCH) != 1) | (not bad))
    assert same_bits([state[n] for n in MUST_NOT_CHANGE], [clean[n] for n in MUST_NOT_CHANGE])
    assert (int(state["step"]), int(clean["step"])) == (5, 3)
    figures.report("2 of 5 batches not finite: state bit-equal to a run without them")


def test_the_state_that_went_in_is_given_up(base):
    """Else a step would need the memory of two states."""
    state = base.state()
    base.step(state, base.batch(0))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state["params"]))


def test_the_metrics_add_up(base, trained):
    state, told = trained
    batch = base.batch(2)
    last = told[-1]
    assert last.time_count.sum() == BATCH
    assert last.score_count.sum() == batch.present.sum()
    assert last.time_loss.sum() / BATCH == pytest.approx(last.loss, rel=1e-5)
    rounded = np.rint(batch.scores.mean(1))[batch.present]
    np.testing.assert_array_equal(last.score_count, np.bincount(rounded.astype(int), minlength=6))
    norm = np.sqrt(sum(float(jnp.sum(jnp.square(x))) for x in state["params"].values()))
    assert last.param_norm == pytest.approx(norm, rel=1e-5)
    assert last.learning_rate == pytest.approx(1e-3)


def test_training_lowers_the_loss_of_what_it_has_seen(base):
    _, told = base.train([base.batch(0)] * 20)
    assert told[-1].loss < 0.9 * told[0].loss


@pytest.mark.slow
def test_accumulated_parts_are_one_batch(trained):
    """Gradients and losses agree; the parameters differ where Adam amplifies rounding at zero."""
    state, told = tiny_run(optimizer__accumulation=4).train_steps(3)
    for one, two in zip(told, trained[1], strict=True):
        np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
        np.testing.assert_allclose(one.grad_norm, two.grad_norm, rtol=1e-5)
        np.testing.assert_array_equal(one.time_count, two.time_count)
        np.testing.assert_allclose(one.time_loss, two.time_loss, rtol=1e-4)
        np.testing.assert_array_equal(one.score_count, two.score_count)
    assert largest_difference(state["params"], trained[0]["params"]) < 1e-3


@pytest.mark.slow
def test_the_bad_example_of_accumulated_parts_is_found_in_its_place():
    run = tiny_run(devices=2, optimizer__accumulation=2)
    batch = run.batch(0)
    for row in (0, 3, 6):
        scores = batch.scores.copy()
        scores[row] = np.nan
        spoilt = batch._replace(scores=scores, present=np.ones(BATCH, bool))
        _, metrics = run.step(run.state(), spoilt)
        np.testing.assert_array_equal(metrics.finite, np.arange(BATCH) != row)


@pytest.mark.slow
def test_recomputing_activations_changes_no_loss(trained):
    _, told = tiny_run(model__remat=True).train_steps(3)
    for one, two in zip(told, trained[1], strict=True):
        np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
        np.testing.assert_allclose(one.grad_norm, two.grad_norm, rtol=1e-4)


@pytest.mark.slow
def test_bfloat16_trains_in_float32_parameters(trained):
    state, told = tiny_run(model__compute_dtype="bfloat16").train_steps(3)
    for one, two in zip(told, trained[1], strict=True):
        np.testing.assert_allclose(one.loss, two.loss, rtol=0.03)
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype("float32")}


@pytest.mark.slow
def test_a_run_without_reward_or_average():
    plain = make_unet(dataclasses.replace(SMALL, reward=None))
    run = TinyRun(plain, model__ema_decay=None)
    state, told = run.train_steps(2)
    assert state["ema"] == {}
    assert np.isfinite(told[-1].loss)


@pytest.mark.slow
def test_the_learning_rate_follows_the_steps_that_counted():
    """A warm-up is not used up by steps that change nothing."""
    run = tiny_run(optimizer__warmup_steps=4)
    batches = [run.batch(step) for step in range(4)]
    _, told = run.train([batches[0], poisoned(batches[1]), *batches[1:]])
    rates = [m.learning_rate for m in told]
    # A rate is computed in float32.
    np.testing.assert_allclose(rates, [0, 2.5e-4, 2.5e-4, 5e-4, 7.5e-4], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"loss__reward_dropout": 0.5}, {"loss__min_snr_gamma": 1.0}])
def test_what_changes_the_loss_changes_the_loss(trained, settings):
    _, told = tiny_run(**settings).train_steps(1)
    assert np.isfinite(told[0].loss)
    assert abs(told[0].loss / trained[1][0].loss - 1) > 1e-4


def test_a_reward_that_is_absent_is_not_learned_from(base):
    """Whatever stands in the place of its scores."""
    batch = make_batch(0, base.unet_config.cross_attention_dim)
    scores = batch.scores.copy()
    scores[~batch.present] = 4
    one, _ = base.step(base.state(), batch)
    two, _ = base.step(base.state(), batch._replace(scores=scores))
    assert same_bits(one["params"], two["params"])
