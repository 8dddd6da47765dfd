"""The examples of the docstrings hold."""

import doctest
import importlib

import pytest

MODULES = [
    f"mre_jax.judges.{name}"
    for name in (
        "judge",
        "outcome",
        "packs.answer_parser",
        "packs.objects",
        "packs.pack",
        "question",
        "spec",
        "verdict",
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed
