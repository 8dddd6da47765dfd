"""The loss on held-out examples: a number that compares between steps, runs and devices."""

import dataclasses

import jax
import numpy as np
import pytest

from mre_jax.errors import ConfigError
from mre_jax.training.config import load_config
from mre_jax.training.data import open_data
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.held_out import HeldOutLoss, noise_key, open_held_out
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.start import load_start
from mre_jax.training.state import fresh_state
from mre_jax.training.step import make_loss
from mre_jax.training.truncation import Truncation
from tests.data.prepared import prepare_toy, write_toy
from tests.training.train_files import write_config

EXAMPLES = 13
"""Of 16: no batch size below divides it."""


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held")
    return prepare_toy(write_toy(folder / "toy", 16), folder / "shards")


@pytest.fixture(scope="module")
def config(editor, shards, held_out, tmp_path_factory):
    path = write_config(
        tmp_path_factory.mktemp("held-out") / "config.yaml",
        editor,
        shards,
        validation={"data": [str(held_out)], "loss_every": 2, "examples": EXAMPLES},
        loss={"dropout": 0.3, "reward_dropout": 0.5},
    )
    return load_config(path)


def measured(config, devices, change=lambda state: state):
    """The loss before the first step, on some of the simulated devices."""
    mesh = make_mesh(config.mesh, jax.devices()[:devices])
    layout = Layout.of(config.mesh, mesh)
    start = load_start(config, layout, RequiredNetworks())
    training = open_data(config).training
    loader = dataclasses.replace(
        open_held_out(config, training), tokenize=Truncation(start.tokenizer)
    )
    loss = make_loss(config, start.networks, start.encoders, start.schedule, layout)
    state = fresh_state(start.params, make_optimizer(config.optimizer, 6), layout, ema=True)
    with jax.set_mesh(mesh):
        return HeldOutLoss(config, loader, loss, start.frozen, layout)(change(state))


@pytest.fixture(scope="module")
def one_device(config):
    return measured(config, 1)


def test_it_is_that_of_a_model_that_has_learned_nothing(one_device):
    """And its quarters are parts of the same examples."""
    assert 0.5 < one_device["held_out_loss"] < 2
    quarters = [value for name, value in one_device.items() if "time" in name]
    assert len(quarters) == 4
    assert min(quarters) <= one_device["held_out_loss"] <= max(quarters)


def test_neither_seed_nor_batch_nor_devices_change_it(config, one_device):
    data = dataclasses.replace(config.data, batch_size=16, flip=0.9)
    other = dataclasses.replace(config, data=data, seed=7)
    assert measured(other, 8) == pytest.approx(one_device, rel=1e-5)


@pytest.mark.slow
def test_the_moving_average_is_measured(config, one_device):
    def halve(name):
        return lambda state: {**state, name: jax.tree.map(lambda x: x * 0.5, state[name])}

    assert measured(config, 1, halve("params")) == one_device
    assert measured(config, 1, halve("ema"))["held_out_loss"] != one_device["held_out_loss"]


def test_noise_depends_on_the_id_alone():
    """A figure that must stay, or losses of different versions would not compare."""
    np.testing.assert_array_equal(noise_key("0000001"), noise_key("0000001"))
    assert noise_key("0000001").tolist() != noise_key("0000002").tolist()
    assert noise_key("0000001").tolist() == [2471894016, 3593598824]


def test_a_set_that_is_trained_on_is_no_held_out_one(config, shards):
    validation = dataclasses.replace(config.validation, data=(str(shards),))
    training = open_data(config).training
    with pytest.raises(ConfigError, match=r"validation.data: .* is trained on"):
        open_held_out(dataclasses.replace(config, validation=validation), training)


def test_examples_of_a_loss_that_is_not_finite_are_named_once(config, held_out, capsys):
    layout = Layout.of(config.mesh, make_mesh(config.mesh, jax.devices()[:1]))
    training = open_data(config).training
    loader = dataclasses.replace(
        open_held_out(config, training), tokenize=lambda texts: np.zeros((len(texts), 4), np.int32)
    )

    def loss(params, frozen, batch, count):
        del params, frozen, count
        bad = int(np.asarray(batch.positions)[0]) == 8
        return np.full(4, np.nan if bad else 1.0), np.ones(4)

    measure = HeldOutLoss(config, loader, loss, None, layout)
    for _ in range(2):
        assert np.isnan(measure({"ema": {}, "params": {}})["held_out_loss"])
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "not finite" in line)
    assert "in 1 of its batches" in line
    ids = [source[record].id for source, record in loader.find(np.arange(8, EXAMPLES))]
    assert line.endswith(", ".join(f"{example} of {held_out}" for example in ids))
