"""The examples in the docstrings are true."""

import doctest
import importlib
import shutil

import pytest

from mre_jax.evaluation.suites.real_edit import read_real_edit

MODULES = (
    "edit_set",
    "metrics.pixel",
    "statistics.compare",
    "statistics.spec",
    "suites",
    "suites.real_edit",
    "system",
    "tables.spec",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").symlink_to(toy)
    (tmp_path / "edits").mkdir()
    for case in read_real_edit(toy / "benchmark"):
        shutil.copy(case.original, tmp_path / "edits" / f"{case.id}.png")
    found = doctest.testmod(importlib.import_module(f"mre_jax.evaluation.{name}"))
    assert found.attempted and not found.failed
