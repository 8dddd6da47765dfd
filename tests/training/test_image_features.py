"""SmartEdit's image features in a step: wherever the UNet is asked, on however many devices."""

import dataclasses
import math

import numpy as np
import pytest

from tests.models.tiny_unet import make_unet
from tests.training.tiny_run import FEATURES, SMALL, TinyRun, largest_difference, tiny_run

STEPS = 2


@pytest.fixture(scope="module")
def alone():
    run = tiny_run(image_features=FEATURES)
    return run, *run.train_steps(STEPS)


def test_they_are_in_the_loss(alone):
    """They add to what the plain editor reads: the same batch without them has another loss."""
    run, _, told = alone
    bare = run.batch(0)
    _, without = tiny_run().step(
        tiny_run().state(), bare._replace(cached=bare.cached._replace(image_features=None))
    )
    assert abs(without.loss / told[0].loss - 1) > 1e-3


@pytest.mark.parametrize(
    "layout",
    [
        {"devices": 2},
        pytest.param(
            {"devices": 4, "optimizer__accumulation": 2, "mesh__fsdp": 2}, marks=pytest.mark.slow
        ),
    ],
)
def test_other_devices_and_parts_train_as_one(alone, layout):
    """To the rounding that `test_sharding` has for the first editor."""
    _, state, told = alone
    other, others = tiny_run(image_features=FEATURES, **layout).train_steps(STEPS)
    for one, two in zip(told, others, strict=True):
        np.testing.assert_allclose(two.loss, one.loss, rtol=1e-5)
        np.testing.assert_allclose(two.grad_norm, one.grad_norm, rtol=1e-4)
    assert largest_difference(other["params"], state["params"]) < 1e-3


def test_features_that_are_not_finite_are_found_in_their_place(alone):
    run, _, _ = alone
    batch = run.batch(0)
    features = batch.cached.image_features.copy()
    features[5, 0, 0, 0] = np.inf
    spoilt = batch._replace(cached=batch.cached._replace(image_features=features))
    _, metrics = run.step(run.state(), spoilt)
    np.testing.assert_array_equal(metrics.finite, np.arange(len(features)) != 5)
    assert int(metrics.skipped) == 1


@pytest.mark.slow
def test_the_reference_of_preference_training_reads_them_too():
    """Before the first step it is the network itself, and every pair is undecided."""
    plain = make_unet(dataclasses.replace(SMALL, reward=None))
    run = TinyRun(plain, image_features=FEATURES, loss__preference={"beta": 50.0})
    _, metrics = run.step(run.state(), run.batch(0))
    assert metrics.loss == pytest.approx(math.log(2), rel=1e-5)
