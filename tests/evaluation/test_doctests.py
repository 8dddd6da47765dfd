"""The examples in the docstrings are true."""

import doctest
import importlib

import pytest

MODULES = (
    "statistics.spec",
    "tables.spec",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(importlib.import_module(f"mre_jax.evaluation.{name}"))
    assert found.attempted and not found.failed
