"""The examples of the docstrings, of every module that has some, give what they say.

They run in a folder that holds what the examples name: toy/, a toy world; shards/, made of it;
edits/, a picture for each edit of its benchmark; held_out/, another benchmark; photo.png and
items.jsonl; configs/. `TOY` is the editor that ships.
"""

import doctest
import importlib
import importlib.util
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import mre_jax
from mre_jax.data.prepare import PrepareSpec, prepare
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.toyworld import EDITOR
from mre_jax.toyworld.benchmark import write_benchmark
from tests.data.prepared import write_toy

PACKAGE = Path(mre_jax.__file__).parent
CONFIGS = Path(__file__).parents[1] / "configs"
SLOW = {  # they compile an encoder or an edit
    "mre_jax.data.prepare",
    "mre_jax.editing.edit_photo",
    "mre_jax.editing.pipeline",
    "mre_jax.editing.sample",
    "mre_jax.improvement.improve",
    "mre_jax.training.train",
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text()
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    toy = write_toy(folder / "toy", examples=7)
    if importlib.util.find_spec("tensorflow_datasets"):
        spec = PrepareSpec(
            "instruct_pix2pix",
            toy / "triplets",
            out=folder / "shards",
            rewards=toy / "RewardEdit.json",
            name="toy",
        )
        prepare(spec)
    write_benchmark(folder / "held_out", scenes=2, seed=1, size=32, image_format="png")
    (folder / "edits").mkdir()
    cases = read_real_edit(toy / "benchmark")
    for case in cases:
        shutil.copy(case.original, folder / "edits" / f"{case.id}.png")
    shutil.copy(cases[0].original, folder / "photo.png")
    item = {"id": "a", "image": "photo.png", "prompt": "make it night"}
    (folder / "items.jsonl").write_text(json.dumps(item))
    (folder / "configs").symlink_to(CONFIGS)
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in MODULES]
)
def test_examples(name, example_folder, tmp_path, monkeypatch, capsys):
    if name.startswith("mre_jax.data."):
        pytest.importorskip("tensorflow_datasets")
    module = imported(name)
    shutil.copytree(example_folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names = {"TOY": str(EDITOR), "OUT": tmp_path / "out", "jax": jax, "jnp": jnp}
    found = doctest.testmod(module, extraglobs=names, optionflags=OPTIONS)
    output = capsys.readouterr().out
    if found.failed and "pip install 'mre_jax[" in output:
        pytest.skip("an extra is missing")
    assert found.attempted and not found.failed, output


def imported(name):
    """The module; skips one that needs a package which is not there."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mre_jax"):
            raise
        pytest.skip(str(error))
