"""An item's noise depends on its seed and id alone."""

import jax
import numpy as np
import pytest

from mre_jax.diffusion.noise import (
    Stream,
    initial_latents,
    item_keys,
    normal_per_example,
    step_noise,
    stream_keys,
)
from mre_jax.errors import ConfigError

SHAPE = (4, 6, 4)
IDS = ["cat.png", "dog.png", "Ünïcode/日本.png", ""]
SEEDS = [0, 1, 2**32 - 1, 7]


def test_noise_does_not_depend_on_batch_order_or_padding():
    noise = initial_latents(item_keys(SEEDS, IDS), SHAPE)
    turned = initial_latents(item_keys(SEEDS[::-1], IDS[::-1]), SHAPE)
    alone = initial_latents(item_keys(SEEDS[1:2], IDS[1:2]), SHAPE)
    padded = initial_latents(item_keys([*SEEDS, 0, 0], [*IDS, "pad", "pad"]), SHAPE)
    np.testing.assert_array_equal(noise, turned[::-1])
    np.testing.assert_array_equal(noise[1:2], alone)
    np.testing.assert_array_equal(noise, padded[:4])
    single = normal_per_example(stream_keys(item_keys([1], ["dog.png"]), Stream.LATENTS), SHAPE)
    np.testing.assert_array_equal(alone, single)


def test_step_noise_does_not_depend_on_batch_order():
    keys = item_keys(SEEDS, IDS)
    np.testing.assert_array_equal(
        step_noise(keys, 3, SHAPE)[::-1], step_noise(keys[::-1], 3, SHAPE)
    )


def test_items_seeds_streams_and_steps_draw_different_noise():
    keys = item_keys([0, 0, 1], ["a", "b", "a"])
    draws = [
        *initial_latents(keys, SHAPE),
        *step_noise(keys, 0, SHAPE),
        *step_noise(keys, 1, SHAPE),
    ]
    assert len({np.asarray(draw).tobytes() for draw in draws}) == len(draws) == 9


def test_noise_is_standard_normal():
    noise = np.asarray(initial_latents(item_keys(range(100), ["x"] * 100), (16, 16, 4)))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_an_items_noise_stays_the_same_across_releases():
    """Users compare pictures of one seed; a change here changes them all."""
    keys = item_keys([42], ["cat.png"])
    np.testing.assert_array_equal(jax.random.key_data(keys)[0], [2206019307, 161458787])
    noises = initial_latents(keys, SHAPE), step_noise(keys, 3, SHAPE)
    firsts = [noise.ravel()[0] for noise in noises]
    np.testing.assert_allclose(firsts, [-2.0981779, 0.7112892], rtol=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed={seed}"):
        item_keys([seed], ["a"])


def test_a_missing_seed_is_refused():
    with pytest.raises(ConfigError, match="1 seeds for 2 items"):
        item_keys([0], ["a", "b"])
