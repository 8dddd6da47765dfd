"""Diffusion-DPO: its formula, its gradient, its layouts, and a run that learns to prefer."""

import functools
import math
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError
from mre_jax.training import losses
from mre_jax.training import train as train_module
from mre_jax.training.config import TrainConfig, load_config
from mre_jax.training.inputs import make_inputs
from mre_jax.training.parallel import make_mesh
from mre_jax.training.preference import preference_loss
from mre_jax.training.train import train
from tests.data.batches.test_loader import noise
from tests.data.cached import cache_toy
from tests.data.shards import write_set
from tests.models.tiny_unet import make_unet
from tests.training.states import same_bits
from tests.training.test_sharding import distance
from tests.training.test_train import make_cheap_step
from tests.training.tiny_run import SMALL, TinyRun
from tests.training.train_files import losses as logged_losses
from tests.training.train_files import saved_state, write_config

BETA = 50.0


def random_predictions(pairs=5, shape=(4, 4, 3)):
    """Of [winner, loser]: target, prediction of the network, and of the reference."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=(2, pairs, *shape))
    return target, *(target + 0.3 * rng.normal(size=target.shape) for _ in range(2))


def interleaved(values):
    """[winner, loser] of each pair as rows of a batch."""
    return jnp.asarray(np.stack(values, 1).reshape(-1), jnp.float32)


def test_the_loss_is_the_published_one():
    """Eq. 14 with squared norms, and the released code's form with means, in torch."""
    torch = pytest.importorskip("torch")
    target, output, reference = map(torch.from_numpy, random_predictions())
    weight = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    norms = [(target - x).flatten(2).square().sum(-1) for x in (output, reference)]
    steps, numbers = 1000, target[0, 0].numel()
    beta = BETA / (2 * numbers * steps)  # the paper's
    inside = (norms[0][0] - norms[1][0]) - (norms[0][1] - norms[1][1])
    published = -torch.nn.functional.logsigmoid(-beta * steps * weight * inside).mean()

    errors = [interleaved((n / numbers).numpy()) for n in norms]
    weights = jnp.repeat(jnp.asarray(weight.numpy(), jnp.float32), 2)
    assert float(preference_loss(*errors, weights, BETA)) == pytest.approx(
        float(published), rel=1e-5
    )

    models, refs = ((x - target).pow(2).mean(dim=[2, 3, 4]) for x in (output, reference))
    released = -0.5 * BETA * ((models[0] - models[1]) - (refs[0] - refs[1]))
    released = -torch.nn.functional.logsigmoid(released).mean()
    found = preference_loss(*errors, jnp.ones(10), BETA)
    assert float(found) == pytest.approx(float(released), rel=1e-5)


def test_at_the_reference_it_is_log_2_and_its_gradient_is_known():
    """sigmoid(0) = 1/2: a quarter of beta, to lower the winner's error and to raise the loser's."""
    errors = jnp.asarray([0.3, 0.1, 0.7, 0.9])
    weight = jnp.asarray([1.0, 1.0, 0.5, 0.5])
    value, gradient = jax.value_and_grad(preference_loss)(errors, errors, weight, BETA)
    assert float(value) == pytest.approx(math.log(2), rel=1e-6)
    want = BETA / 4 * weight * jnp.asarray([1.0, -1, 1, -1]) / 2
    np.testing.assert_allclose(gradient, want, rtol=1e-6)


@functools.cache
def run_of_pairs(devices=1, **settings):
    plain = make_unet(SMALL.__class__(**{**vars(SMALL), "reward": None}))
    return TinyRun(plain, devices=devices, loss__preference={"beta": BETA}, **settings)


def paired(run, step=0):
    """A batch of four pairs, which share all but the edited latents."""
    batch = run.batch(step)
    first = np.arange(8) // 2 * 2
    shared = ("drop_text", "drop_image", "flip", "key_data")
    cached = batch.cached._replace(
        original=batch.cached.original[first],
        instruction_states=batch.cached.instruction_states[first],
    )
    return batch._replace(cached=cached, **{name: getattr(batch, name)[first] for name in shared})


def errors_of(run):
    """The errors of a network on a batch, as the loss takes them: of (params, batch)."""

    def errors(params, batch):
        settings = {"encoders": run.encoders, "schedule": run.schedule, "loss": run.config.loss}
        inputs = make_inputs(batch, run.frozen, **settings, with_reward=False)
        output = run.unet.module(params)(inputs.sample, inputs.timesteps, inputs.text, None)
        return losses.errors(output, inputs.target, run.config.loss.terms)

    return errors


def test_the_first_step_goes_along_the_difference_of_the_errors():
    run = run_of_pairs()
    batch = paired(run)
    _, metrics = run.step(run.state(), batch)
    assert metrics.loss == pytest.approx(math.log(2), rel=1e-4)

    @jax.jit
    def norm(params, batch):
        def preferred(params):
            errors = errors_of(run)(params, batch)
            return BETA / 4 * jnp.mean(errors[::2] - errors[1::2])

        return optax.tree.norm(jax.grad(preferred)(params))

    assert metrics.grad_norm == pytest.approx(float(norm(run.weights, batch)), rel=1e-4)


def test_the_preferred_edit_becomes_more_likely_than_the_other():
    """Under noise and timesteps that were not trained on, as against the reference."""
    run = run_of_pairs()
    batch, errors = paired(run), jax.jit(errors_of(run))
    state, told = run.train([batch] * 20)
    assert told[-1].loss < 0.5 * math.log(2)
    gained = np.zeros(8)
    for step in range(1, 9):
        fresh = batch._replace(key_data=paired(run, step).key_data)
        gained += np.asarray(errors(run.weights, fresh) - errors(state["params"], fresh))
    assert (gained[::2] > gained[1::2]).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"devices": 4},
        {"devices": 2, "optimizer__accumulation": 2},
        {"devices": 4, "mesh__fsdp": 2},
        {"optimizer__accumulation": 4},
    ],
)
def test_a_layout_changes_only_the_rounding(layout):
    """Found in 3 steps: losses to 2.4e-5, norms to 1.5e-5, and parameters apart by 0.002 of the way
    they went: Adam amplifies rounding where a gradient is near zero, as that of one weight is here.
    """
    alone, laid = run_of_pairs(), run_of_pairs(**layout)
    batches = [paired(alone, step) for step in range(3)]
    (state, told), (other, others) = alone.train(batches), laid.train(batches)
    for one, two in zip(told, others, strict=True):
        np.testing.assert_allclose(two.loss, one.loss, rtol=1e-4)
        np.testing.assert_allclose(two.grad_norm, one.grad_norm, rtol=1e-4)
        np.testing.assert_array_equal(two.time_count, one.time_count)
    gone = distance(state["params"], alone.weights)
    assert distance(other["params"], state["params"]) < 0.01 * gone


def test_accumulated_parts_take_whole_pairs():
    """The example that is not finite is found in its place, and two parts are one batch."""
    run = run_of_pairs(devices=2, optimizer__accumulation=2)
    batch = paired(run)
    _, whole = run_of_pairs().step(run_of_pairs().state(), batch)
    _, parts = run.step(run.state(), batch)
    np.testing.assert_allclose(parts.grad_norm, whole.grad_norm, rtol=1e-4)
    mean = batch.cached.edited_mean.copy()
    mean[5] = np.nan
    _, metrics = run.step(
        run.state(), batch._replace(cached=batch.cached._replace(edited_mean=mean))
    )
    np.testing.assert_array_equal(metrics.finite, np.arange(8) != 5)


class TestConfig:
    """Mistakes are named in one line, and what was there is the same training."""

    def make(self, reward=None, **changes):
        values = {
            "name": "tiny",
            "steps": 4,
            "model": {"init_from": "model", "reward": reward},
            "data": {"paths": ["data"], "batch_size": changes.pop("batch_size", 4)},
            "loss": {"preference": changes.pop("preference", {})} | changes.pop("loss", {}),
            **changes,
        }
        return TrainConfig.from_dict(values, "config.yaml")

    def test_defaults_are_those_of_the_released_code(self):
        assert self.make().loss.preference.beta == 5000
        assert self.make(preference=None).loss.preference is None

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"reward": {}}, "set model.reward=null"),
            ({"loss": {"score_weighting": "linear"}}, "loss.score_weighting='linear' must be none"),
            ({"batch_size": 5}, "data.batch_size=5 does not split"),
            ({"optimizer": {"accumulation": 4}}, "equal parts of whole pairs"),
            ({"preference": {"beta": 0}}, "loss.preference.beta=0 must be"),
            ({"preference": {"margin": 6}}, "loss.preference.margin=6 must be in 0 to 5"),
            ({"preference": {"bet": 1}}, "did you mean loss.preference.beta"),
        ],
    )
    def test_a_mistake_is_named(self, changes, message):
        with pytest.raises(ConfigError) as raised:
            self.make(**changes)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_a_run_without_preference_is_the_run_it_was(self):
        """Its hash stands in checkpoints that were made before."""
        with_it, without = self.make(), self.make(preference=None)
        values = without.to_dict()
        del values["loss"]["preference"]
        assert TrainConfig.from_dict(values).hash == without.hash != with_it.hash


@pytest.fixture(scope="module")
def edits(tmp_path_factory):
    """Four pictures with two edits each, the second better."""
    triplets = [
        Triplet(
            id=f"{n}-{score}",
            original=noise(n),
            edited=noise(n + 10 * score),
            instruction=f"edit {n}",
            scores=(score, score, score),
        )
        for n in range(4)
        for score in (1, 4)
    ]
    return write_set(tmp_path_factory.mktemp("edits"), triplets, shards=2)


class TestRun:
    """`train` on files."""

    @pytest.fixture(autouse=True)
    def one_device(self, monkeypatch):
        monkeypatch.setattr(
            train_module, "make_mesh", lambda mesh: make_mesh(mesh, jax.devices()[:1])
        )

    def config(self, tmp_path, model, data, *settings, **changes):
        values = {"model": {"reward": None}, "loss": {"preference": {"beta": BETA}}, **changes}
        path = write_config(tmp_path / "config.yaml", model, data, **values)
        return load_config(path, ["guard.watchdog_seconds=0", *settings])

    def test_a_resume_ends_in_the_same_bits_without_the_model(self, editor, edits, tmp_path):
        """The reference is kept in the run: the model that it came from may be gone."""
        model = Path(shutil.copytree(editor, tmp_path / "model"))
        said = []
        train(self.config(tmp_path, model, edits, "steps=4"), tmp_path / "whole", log=said.append)
        assert "8 examples in 4 pairs; 0 pairs are alike in score" in said[0]
        train(self.config(tmp_path, model, edits, "steps=2"), tmp_path / "run")
        shutil.rmtree(model)
        train(self.config(tmp_path, model, edits, "steps=4"), tmp_path / "run")
        whole, run = tmp_path / "whole", tmp_path / "run"
        assert same_bits(saved_state(run, 4), saved_state(whole, 4))
        assert logged_losses(run) == logged_losses(whole)
        assert logged_losses(run)[0] == pytest.approx(math.log(2), abs=1e-3)
        assert logged_losses(run)[-1] != logged_losses(run)[0]

    @pytest.mark.slow
    def test_it_trains_on_a_cache_in_parts_and_in_bfloat16(self, editor, edits, tmp_path):
        pytest.importorskip("tensorflow_datasets")
        cached = cache_toy(edits, editor, tmp_path / "cached", "--text")
        config = self.config(
            tmp_path,
            editor,
            cached,
            "data.resolution=32",
            "data.cache=required",
            "data.flip=0",
            "optimizer.accumulation=2",
            "model.compute_dtype=bfloat16",
            "steps=2",
        )
        run = train(config, tmp_path / "run").path
        assert logged_losses(run)[0] == pytest.approx(math.log(2), abs=0.05)

    def test_a_run_that_turns_to_preferences_reads_its_model_again(
        self, editor, edits, tmp_path, monkeypatch
    ):
        """One that began without kept no reference; from then on it does."""
        monkeypatch.setattr(train_module, "make_step", make_cheap_step)
        plain = self.config(tmp_path, editor, edits, "steps=2", loss={"preference": None})
        kept = train(plain, tmp_path / "run").model / "unet"
        assert not kept.exists()
        changed = self.config(tmp_path, editor, edits, "steps=4")
        train(changed, tmp_path / "run", allow_config_change=True)
        assert kept.exists()
