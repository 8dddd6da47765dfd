"""The examples in the docstrings of this room run as they stand."""

import doctest

import jax.numpy as jnp
import pytest

from mre_jax.training import config, losses
from mre_jax.training.run import directory


@pytest.mark.parametrize("module", [config, losses, directory], ids=lambda m: m.__name__)
def test_examples(module):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.testmod(module, extraglobs={"jnp": jnp}, optionflags=flags)
    assert found.attempted and not found.failed
