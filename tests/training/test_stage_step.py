"""A step of several networks: what its parts are means of, and what it leaves alone."""

import numpy as np
import optax
import pytest

from mre_jax.training.config import OBJECTIVES, TRAINABLE
from mre_jax.training.trained import by_component
from tests.training.tiny_run import largest_difference
from tests.training.tiny_stage import NEW, PARTS, TinyStage, stage_batch, tiny_networks


@pytest.fixture(scope="module")
def whole():
    """A batch by one device at once: state and metrics."""
    run = TinyStage()
    return run.step(run.state(), stage_batch(0))


def test_the_parts_of_a_batch_do_not_matter(whole):
    """The language model's mean is over the tokens of all parts, whose counts differ; and what an
    example drops is its own."""
    run = TinyStage(devices=4, mesh__fsdp=2, optimizer__accumulation=2)
    state, metrics = run.step(run.state(), stage_batch(0))
    assert metrics.parts.keys() == {"diffusion_loss", "language_loss"}
    for name, value in whole[1].parts.items():
        assert metrics.parts[name] == pytest.approx(value, rel=1e-5)
    assert metrics.loss == pytest.approx(whole[1].loss, rel=1e-5)
    assert metrics.grad_norm == pytest.approx(whole[1].grad_norm, rel=1e-4)
    one, two = (first_moments(made) for made in (state, whole[0]))
    assert largest_difference(one, two) < 1e-3


def first_moments(state):
    """Without those of the keys' biases, which a softmax takes out: theirs are rounding."""
    moments = optax.tree.get(state["optimizer"], "mu")
    return {n: x for n, x in moments.items() if not n.endswith(("key.bias", "k_proj.bias"))}


def test_the_loss_is_the_sum_of_its_parts(whole):
    metrics = whole[1]
    assert metrics.loss == pytest.approx(sum(metrics.parts.values()), rel=1e-6)


def test_an_instruction_that_was_left_out_is_no_edit_but_stays_in_the_mean(whole):
    metrics = whole[1]
    assert metrics.time_count.sum() == 7
    assert metrics.parts["diffusion_loss"] == pytest.approx(metrics.time_loss.sum() / 8, rel=1e-5)


def test_a_part_that_is_not_finite_names_its_example():
    """Of an edit; an error of what is no edit counts nothing."""
    run = TinyStage()
    batch = stage_batch(0)
    for row, finite in ((2, False), (5, True)):
        original = batch.cached.original.copy()
        original[row] = np.nan
        bad = batch._replace(cached=batch.cached._replace(original=original))
        _, metrics = run.step(run.state(), bad._replace(drop_image=np.zeros(8, bool)))
        np.testing.assert_array_equal(metrics.finite, (np.arange(8) != row) | finite)


def test_every_array_is_trained_or_frozen_and_none_is_both():
    networks, params, frozen = tiny_networks()
    split = by_component(params, PARTS)
    for name, network in networks.networks.items():
        rows = {path for path in split.get(name, ()) if path.endswith("new_rows")}
        trained = set(split.get(name, ())) - rows
        assert trained | set(frozen[name]) == set(network.names)
        assert not trained & set(frozen[name])
    assert set(split) == {"unet", "qformer", "bim", "llm"}
    assert "pe_layer.positional_encoding_gaussian_matrix" in frozen["bim"]
    assert len(params["llm.lm_head.new_rows"]) == NEW


def test_every_objective_trains_networks_that_can_be_named():
    assert {name for names in OBJECTIVES.values() for name in names} <= set(TRAINABLE)
