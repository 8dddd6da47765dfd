"""Guidance rules against their formulas, and the stacking of branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.guidance import (
    FULL,
    IMAGE,
    LOW_REWARD,
    TEXT,
    UNCONDITIONAL,
    combine,
    plan_guidance,
    stack_branches,
    tile_branches,
)
from mre_jax.errors import ConfigError

RANDOM = np.random.default_rng(0).standard_normal((5, 3, 4, 6, 4), np.float32)
OUTPUTS = dict(zip((FULL, IMAGE, TEXT, UNCONDITIONAL, LOW_REWARD), RANDOM, strict=True))


def guided(guidance):
    stacked = jnp.concatenate([jnp.asarray(OUTPUTS[branch]) for branch in guidance.branches])
    return jax.jit(combine)(stacked, jnp.asarray(guidance.weights))


def column(*values):
    return np.array(values, np.float32)[:, None, None, None]


def test_instruct_pix2pix_is_the_formula_per_example():
    guidance = plan_guidance("instruct_pix2pix", [7.5, 3.0, 1.5], [1.5, 1.0, 2.0])
    s_text, s_image = column(7.5, 3.0, 1.5), column(1.5, 1.0, 2.0)
    full, image, none = OUTPUTS[FULL], OUTPUTS[IMAGE], OUTPUTS[UNCONDITIONAL]
    expected = none + s_text * (full - image) + s_image * (image - none)
    assert guidance.branches == (FULL, IMAGE, UNCONDITIONAL)
    assert guidance.weights.dtype == np.float32
    np.testing.assert_allclose(guided(guidance), expected, rtol=1e-5, atol=1e-5)


def test_instruct_diffusion_is_the_formula_per_example():
    guidance = plan_guidance("instruct_diffusion", [5.0, 1.0, 2.0], [1.25, 0.0, 3.0])
    s_text, s_image = column(5.0, 1.0, 2.0), column(1.25, 0.0, 3.0)
    full, image, text = OUTPUTS[FULL], OUTPUTS[IMAGE], OUTPUTS[TEXT]
    expected = (image + text) / 2 + s_text * (full - image) + s_image * (full - text)
    assert guidance.branches == (FULL, IMAGE, TEXT)
    np.testing.assert_allclose(guided(guidance), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", ["instruct_pix2pix", "instruct_diffusion"])
def test_reward_guidance_moves_away_from_the_low_reward(rule):
    without = plan_guidance(rule, 7.5, [1.5, 1.5, 1.5])
    guidance = plan_guidance(rule, 7.5, 1.5, [1.0, 2.0, 4.0])
    push = column(0, 1, 3) * (OUTPUTS[FULL] - OUTPUTS[LOW_REWARD])
    assert guidance.branches == (*without.branches, LOW_REWARD)
    np.testing.assert_allclose(guided(guidance), guided(without) + push, rtol=1e-5, atol=1e-5)


def test_an_example_with_guidance_scale_1_gets_the_plain_prediction():
    guidance = plan_guidance("instruct_pix2pix", [7.5, 1.0, 7.5], 1.5)
    np.testing.assert_allclose(guided(guidance)[1], OUTPUTS[FULL][1], rtol=1e-6)
    np.testing.assert_array_equal(guidance.weights[1], [1, 0, 0])


@pytest.mark.parametrize(
    ("scales", "branches"),
    [
        ((1.0, 9.0, 1.0), (FULL,)),
        ((1.0, 1.5, 2.0), (FULL, LOW_REWARD)),
        ((7.5, 1.0, 1.0), (FULL, IMAGE)),
        ((2.0, 2.0, 1.0), (FULL, UNCONDITIONAL)),
        (([7.5, 1.0], 1.0, 1.0), (FULL, IMAGE)),
        ((7, 2, 1), (FULL, IMAGE, UNCONDITIONAL)),
    ],
)
def test_a_branch_that_no_example_needs_is_not_run(scales, branches):
    assert plan_guidance("instruct_pix2pix", *scales).branches == branches


def test_each_branch_sees_its_conditions_and_nothing_else():
    guidance = plan_guidance("instruct_pix2pix", [7.5, 7.5], 1.5, 2.0)
    text = jnp.arange(12.0).reshape(2, 3, 2)
    null = -jnp.ones((1, 3, 2))
    image = jnp.arange(8.0).reshape(2, 2, 2, 1) + 1
    high, low = {"scores": jnp.full((2, 3), 5.0)}, {"scores": jnp.zeros((2, 3))}
    stacked = stack_branches(guidance, text=text, null_text=null, image=image, high=high, low=low)

    empty, blank = jnp.broadcast_to(null, text.shape), jnp.zeros_like(image)
    assert guidance.branches == (FULL, IMAGE, UNCONDITIONAL, LOW_REWARD)
    np.testing.assert_array_equal(stacked.text, jnp.concatenate([text, empty, empty, text]))
    np.testing.assert_array_equal(stacked.image, jnp.concatenate([image, image, blank, image]))
    np.testing.assert_array_equal(stacked.reward["scores"][:, 0], [5, 5, 5, 5, 5, 5, 0, 0])
    np.testing.assert_array_equal(tile_branches(guidance, text), jnp.concatenate([text] * 4))


def test_the_text_only_branch_sees_a_blank_image():
    guidance = plan_guidance("instruct_diffusion", [5.0], 1.25)
    text, image = jnp.ones((1, 3, 2)), jnp.ones((1, 2, 2, 1))
    stacked = stack_branches(guidance, text=text, null_text=0 * text, image=image)
    np.testing.assert_array_equal(stacked.text[:, 0, 0], [1, 0, 1])
    np.testing.assert_array_equal(stacked.image[:, 0, 0, 0], [1, 1, 0])
    assert stacked.reward is None


def test_guidance_passes_through_jit_as_an_argument():
    guidance = plan_guidance("instruct_pix2pix", [7.5, 7.5, 7.5], 1.5)
    assert jax.tree.map(np.shape, guidance).weights == (3, 3)
    tree = jax.jit(lambda guidance: tile_branches(guidance, guidance.weights))(guidance)
    np.testing.assert_array_equal(tree, np.tile(guidance.weights, (3, 1)))


def test_reward_guidance_without_a_reward_is_refused():
    guidance = plan_guidance("instruct_pix2pix", [7.5], 1.5, 2.0)
    text, image = jnp.ones((1, 3, 2)), jnp.ones((1, 2, 2, 1))
    with pytest.raises(ConfigError, match="reward_guidance_scale above 1 needs a reward"):
        stack_branches(guidance, text=text, null_text=text, image=image)


@pytest.mark.parametrize("bad", [0.5, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", ["guidance_scale", "image_guidance_scale", "reward_guidance_scale"]
)
def test_a_scale_out_of_range_is_refused_by_name(name, bad):
    scales = {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "reward_guidance_scale": 1.0}
    with pytest.raises(ConfigError, match=f"^{name}={bad:g} must be"):
        plan_guidance("instruct_pix2pix", **scales | {name: [2.0, bad]})


def test_scales_of_different_lengths_are_refused():
    with pytest.raises(ConfigError, match="2, 3, 1 examples"):
        plan_guidance("instruct_pix2pix", [7.5, 7.5], [1.5, 1.5, 1.5])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="instruct_pix2pix, instruct_diffusion"):
        plan_guidance("cfg", 7.5, 1.5)
