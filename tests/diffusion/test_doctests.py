"""The examples of the docstrings do what they say."""

import doctest

import pytest

import mre_jax.diffusion.guidance
import mre_jax.diffusion.noise
import mre_jax.diffusion.sampling
import mre_jax.diffusion.schedule


@pytest.mark.parametrize(
    "module",
    [
        mre_jax.diffusion.guidance,
        mre_jax.diffusion.noise,
        mre_jax.diffusion.sampling,
        mre_jax.diffusion.schedule,
    ],
    ids=lambda module: module.__name__,
)
def test_examples(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed
