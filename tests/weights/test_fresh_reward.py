"""A plain editor gets reward parts that are new and do nothing yet."""

import jax
import numpy as np
import pytest
from flax import nnx

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet
from mre_jax.weights.fresh_reward import WithFreshReward
from mre_jax.weights.names.rule import ModuleTensors, load, parameters, tensors
from tests.models.tiny_unet import (
    abstract_unet,
    make_batch,
    make_unet,
    run,
    tiny_config,
    tiny_reward,
)

SEED = 5
CONFIG = tiny_config(tiny_reward())


@pytest.fixture(scope="module")
def plain():
    return make_unet(tiny_config())


@pytest.fixture(scope="module")
def source(plain):
    return WithFreshReward(ModuleTensors(plain), CONFIG, SEED)


def test_the_rest_of_the_network_is_the_plain_editors(plain, source):
    for name, value in tensors(plain):
        np.testing.assert_array_equal(source.read(name), value)
    made = source.tensors.keys() - ModuleTensors(plain).tensors.keys()
    assert made == {n for n in parameters(abstract_unet(CONFIG)) if n.startswith("reward.")}


def test_a_seed_makes_the_parts_of_a_whole_network_of_that_seed(source):
    """So that a run from scratch and one from a plain editor have the same reward parts."""

    @jax.jit
    def whole():
        unet = UNet(CONFIG, compute=Compute(), rngs=make_rngs(SEED))
        return nnx.to_pure_dict(nnx.state(unet.reward))

    score = np.asarray(whole()["score"]["linear_1"]["kernel"])
    np.testing.assert_array_equal(source.read("reward.score.linear_1.weight"), score.T)


def test_another_seed_makes_other_parts(plain, source):
    other = WithFreshReward(ModuleTensors(plain), CONFIG, SEED + 1)
    name = "reward.score.linear_1.weight"
    assert not np.array_equal(other.read(name), source.read(name))


def test_training_begins_with_the_plain_editors_predictions(plain, source):
    reward = load(abstract_unet(CONFIG), source)
    sample, timestep, states, condition = make_batch(CONFIG).jax
    expected = run(plain, sample, timestep, states)
    np.testing.assert_allclose(
        run(reward, sample, timestep, states, condition), expected, rtol=1e-5, atol=1e-5
    )
