"""The examples in the docstrings of data, of the toy world, and of the sheet that it draws."""

import doctest
import importlib

import pytest

from mre_jax.data.prepare import PrepareSpec, prepare
from tests.data.prepared import write_toy

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples find a toy world of seven triplets, and its shards."""
    folder = tmp_path_factory.mktemp("examples")
    toy = write_toy(folder / "toy", examples=7)
    spec = PrepareSpec(
        "instruct_pix2pix",
        toy / "triplets",
        out=folder / "shards",
        rewards=toy / "RewardEdit.json",
        name="toy",
    )
    prepare(spec)
    return folder


@pytest.mark.parametrize(
    "module",
    [
        "data.prepare",
        "data.verify",
        "data.stats",
        "data.sources",
        "data.records.record_source",
        "data.batches.loader",
        "io.contact_sheet",
        "toyworld.benchmark",
        "toyworld.dataset",
    ],
)
def test_examples_give_what_they_say(module, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = doctest.testmod(importlib.import_module(f"mre_jax.{module}"))
    assert found.attempted and not found.failed
