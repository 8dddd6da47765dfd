"""The examples of the docstrings hold."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["mre_jax.judges.judge", "mre_jax.judges.spec"])
def test_examples_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed
