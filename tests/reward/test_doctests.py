"""The examples of the docstrings do what they say."""

import doctest
import importlib

import pytest

MODULES = ("config", "file", "scores", "stats", "text")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path):
    module = importlib.import_module(f"mre_jax.reward.{name}")
    failed, tried = doctest.testmod(module, extraglobs={"PATH": tmp_path / "rewards.json"})
    assert tried and not failed
