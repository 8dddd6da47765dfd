"""What a run starts from: the pretrained networks, fitted to what it trains."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import ConfigError
from mre_jax.reward.config import RewardConfig
from mre_jax.training.config import load_config
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.pretrained import unet_component
from mre_jax.training.start import load_start
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.load import load_text_encoder, load_unet
from mre_jax.weights.model import REWARD_CLASS, changed
from mre_jax.weights.names.rule import parameters
from mre_jax.weights.opening import open_model
from tests.training.train_files import write_config


@pytest.fixture(scope="module")
def config(editor, shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    return load_config(write_config(folder / "config.yaml", editor, shards))


@pytest.fixture(scope="module")
def layout(config):
    return Layout.of(config.mesh, make_mesh(config.mesh))


@pytest.fixture(scope="module")
def start(config, layout):
    return load_start(config, layout, RequiredNetworks())


def test_the_unet_is_the_pretrained_one_with_new_reward_parts(start, editor):
    pretrained = {
        ".".join(map(str, path)): variable[...]
        for path, variable in parameters(load_unet(editor)).values()
    }
    new = start.params.keys() - pretrained.keys()
    assert new
    assert all(name.startswith("reward.") for name in new)
    for name, value in pretrained.items():
        np.testing.assert_array_equal(start.params[name], value)
    assert {name: (x.shape, x.dtype) for name, x in start.params.items()} == {
        name: (x.shape, x.dtype) for name, x in start.unet.abstract.items()
    }


def test_parameters_are_split_as_they_are_stored(start, layout):
    assert all(x.sharding == layout.storage(x) for x in start.params.values())
    assert any(not x.is_fully_replicated for x in start.params.values())


def test_a_text_that_is_left_out_is_the_empty_one(start, editor):
    states = load_text_encoder(editor)(jnp.asarray(start.tokenizer([""]))).last_hidden_state
    np.testing.assert_allclose(start.frozen.null_text, states[0], rtol=1e-5, atol=1e-5)


def test_encoders_that_nobody_asks_are_not_kept(config, layout):
    start = load_start(config, layout, RequiredNetworks(vae=False, text_encoder=False))
    assert (start.encoders.vae, start.encoders.text_encoder) == (None, None)
    assert jax.tree.leaves(start.frozen) == [start.frozen.null_text]


def test_a_base_of_another_kind_is_refused(editor, shards, layout, tmp_path):
    """It would be trained to predict noise, which its weights never did."""
    model = shutil.copytree(editor, tmp_path / "model")
    flow = '{"_class_name": "FlowMatchEulerDiscreteScheduler"}'
    (model / "scheduler" / "scheduler_config.json").write_text(flow)
    config = load_config(write_config(tmp_path / "config.yaml", model, shards))
    with pytest.raises(ConfigError, match="flow matching"):
        load_start(config, layout, RequiredNetworks())


def test_what_identifies_the_weights(start, editor):
    assert start.weights == weights_hash(editor)
    assert start.hashes.vae
    assert start.hashes.text_encoder


def test_the_configuration_may_ask_for_another_target(config, layout, start):
    assert start.schedule.prediction_type == "epsilon"
    loss = dataclasses.replace(config.loss, prediction_type="v_prediction")
    other = load_start(
        dataclasses.replace(config, loss=loss), layout, RequiredNetworks(False, False)
    )
    assert other.schedule == dataclasses.replace(start.schedule, prediction_type="v_prediction")


@pytest.fixture(scope="module")
def plain(editor):
    return open_model(editor, components=("unet",)).components["unet"]


class TestUNetComponent:
    def with_reward(self, plain, **settings):
        reward = RewardConfig(**settings).to_dict()
        return changed(plain, _class_name=REWARD_CLASS, reward=reward)

    def model(self, config, reward):
        return dataclasses.replace(config.model, reward=reward)

    def test_a_reward_editor_keeps_its_reward(self, config, plain):
        rewarded = self.with_reward(plain, score_width=8, num_attention_heads=4)
        model = self.model(config, RewardConfig(score_width=8, num_attention_heads=4))
        assert unet_component(rewarded, model, 0) is rewarded

    @pytest.mark.parametrize("wanted", [RewardConfig(form="released"), None])
    def test_another_reward_than_the_editors_is_refused(self, config, plain, wanted):
        rewarded = self.with_reward(plain, score_width=8, num_attention_heads=4)
        with pytest.raises(ConfigError, match=r"model\.reward: .* and the configuration asks for"):
            unet_component(rewarded, self.model(config, wanted), 0)

    def test_a_plain_run_of_a_plain_editor_adds_nothing(self, config, plain):
        assert unet_component(plain, self.model(config, None), 0) is plain


def test_a_run_starts_from_a_unet_and_the_base_of_the_rest(config, layout, start, editor):
    unet = next((editor / "unet").glob("*.safetensors"))
    model = dataclasses.replace(config.model, init_from=str(unet), base=str(editor))
    with pytest.warns(UserWarning, match="tokenizer taken from"):
        other = load_start(
            dataclasses.replace(config, model=model), layout, RequiredNetworks(False, False)
        )
    assert (other.weights, other.hashes) == (start.weights, start.hashes)
    assert other.schedule == start.schedule
