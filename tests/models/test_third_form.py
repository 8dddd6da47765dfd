"""A form of the reward that is defined here alone: its class, and its name in two tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.models import reward as forms
from mre_jax.models.layers import Compute, linear, make_rngs
from mre_jax.models.reward import RewardForm, RewardInputs, RewardParts
from mre_jax.models.unet import UNet
from mre_jax.reward import config as names
from mre_jax.reward.config import RewardConfig
from mre_jax.training.flops import forward
from tests.models.tiny_unet import tiny_config, tiny_reward


class Toy(RewardForm):
    """The scores shift the time embedding and the pooled text the first block."""

    def __init__(self, config, reward, *, compute, rngs):
        super().__init__(config, reward, compute=compute, rngs=rngs)
        width, features = config.cross_attention_dim, 3 * reward.score_width
        self.score = linear(features, config.time_width, compute=compute, rngs=rngs)
        self.text = linear(width, config.block_channels[0], compute=compute, rngs=rngs)

    def parts(self, inputs):
        return RewardParts(
            time=self.score(self.encode_scores(inputs.scores)),
            blocks=(self.text(inputs.text_pooled),),
        )


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(names, "FORMS", (*names.FORMS, "toy"))
    monkeypatch.setitem(forms.FORMS, "toy", Toy)
    return tiny_config(tiny_reward(form="toy"))


def test_every_form_has_its_class():
    assert tuple(forms.FORMS) == names.FORMS
    pytest.importorskip("torch")
    from mre_jax.pytorch import reward_unet

    assert tuple(reward_unet._FORMS) == names.FORMS


def test_a_third_form_is_built_and_run(toy):
    unet = UNet(toy, compute=Compute(), rngs=make_rngs(0))
    assert isinstance(unet.reward, Toy)
    width = toy.cross_attention_dim
    keys = jax.random.split(jax.random.key(0), 2)
    sample = jax.random.normal(keys[0], (2, 4, 4, toy.in_channels))
    states = jax.random.normal(keys[1], (2, 5, width))
    scores = jnp.array([[5.0, 5.0, 5.0], [0.0, 3.0, 5.0]])
    inputs = RewardInputs(scores, states, states[:, 0], jnp.array([True, False]))
    timestep = jnp.array([3, 500])
    plain = unet(sample, timestep, states)
    out = unet(sample, timestep, states, inputs)
    assert out.shape == plain.shape
    assert not np.allclose(out[0], plain[0], atol=1e-3)
    np.testing.assert_allclose(out[1], plain[1], atol=1e-6)  # it has no reward
    assert RewardConfig.from_dict(toy.reward.to_dict()) == toy.reward


def test_a_third_form_is_counted(toy):
    reward, width = toy.reward, toy.cross_attention_dim
    added = 2 * 3 * reward.score_width * toy.time_width + 2 * width * toy.block_channels[0]
    assert forward(toy, 4, 4) == forward(tiny_config(None), 4, 4) + added
