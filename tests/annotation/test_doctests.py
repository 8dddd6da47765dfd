"""The examples of the docstrings hold."""

import doctest

from mre_jax.annotation import annotate


def test_examples_hold(toy, tmp_path, monkeypatch):
    (tmp_path / "toy").symlink_to(toy)
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(annotate)
    assert found.attempted and not found.failed
