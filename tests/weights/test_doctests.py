"""The examples in docstrings run, on the tiny model."""

import doctest
import importlib

import pytest

pytest.importorskip("torch")


@pytest.mark.parametrize("name", ["convert", "load", "lora", "model", "save", "tokens"])
def test_examples_run(name, pipeline_folder, tmp_path):
    module = importlib.import_module(f"mre_jax.weights.{name}")
    places = {"EDITOR_FOLDER": pipeline_folder, "OUT": tmp_path / "out"}
    failed, tried = doctest.testmod(module, extraglobs=places)
    assert tried and not failed
