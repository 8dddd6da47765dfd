"""The examples of this room's docstrings run as they stand."""

import doctest
import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

import mre_jax

TOY = str(Path(mre_jax.__file__).parent / "toyworld" / "editor")


@pytest.mark.parametrize("module", ["request", "settings", "size", "spec", "model_spec"])
def test_examples(module):
    found = doctest.testmod(importlib.import_module(f"mre_jax.editing.{module}"))
    assert found.failed == 0


def test_the_examples_are_there():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(f"mre_jax.editing.{name}") for name in ("request", "spec")]
    assert sum(len(test.examples) for module in modules for test in finder.find(module)) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("module", ["pipeline", "sample"])
def test_examples_that_edit(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "white").save("a.png")
    item = {"id": "a", "image": "a.png", "prompt": "make it night"}
    Path("items.jsonl").write_text(json.dumps(item))
    found = doctest.testmod(
        importlib.import_module(f"mre_jax.editing.{module}"), extraglobs={"TOY": TOY}
    )
    assert found.attempted and found.failed == 0
