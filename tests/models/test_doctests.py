"""The examples of the docstrings do what they say."""

import doctest
import importlib

import pytest

MODULES = ("attention", "clip_text", "clip_vision", "layers", "unet", "unet_config", "vae")


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"mre_jax.models.{name}")
    failed, tried = doctest.testmod(module)
    assert tried and not failed
