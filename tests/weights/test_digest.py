"""The hash of a model comes with loading it: each of its files is read once."""

import dataclasses
from pathlib import Path

import pytest

from mre_jax.weights.digest import hashed, weights_hash
from mre_jax.weights.files import torch_legacy
from mre_jax.weights.load import load_model
from mre_jax.weights.model import model_at
from mre_jax.weights.names.rule import load
from tests.weights import tiny

COUNTS = Path("/proc/self/io")
pytestmark = pytest.mark.skipif(not COUNTS.exists(), reason="Linux counts what a process reads")


def bytes_read():
    return int(COUNTS.read_text().split()[1])


@pytest.fixture(params=["folder", "zip", "legacy"])
def model(request, pipeline_folder, tmp_path, monkeypatch):
    """A model in each layout, with what it needs besides, and the size of its weights."""
    if request.param == "folder":
        sizes = [path.stat().st_size for path in pipeline_folder.rglob("*.safetensors")]
        return pipeline_folder, None, sum(sizes)
    torch = pytest.importorskip("torch")
    parts = tiny.make_unet(), tiny.make_vae(), tiny.make_text_encoder()
    state = tiny.original_checkpoint(*parts, average=None)
    path = tmp_path / "model.ckpt"
    torch.save(state, path, _use_new_zipfile_serialization=request.param == "zip")
    # As for a file of gigabytes, the pickles are a small part of it.
    monkeypatch.setattr(torch_legacy, "_PROGRAM_LIMIT", path.stat().st_size // 4)
    return path, pipeline_folder, path.stat().st_size


def loaded_and_hashed(path, base):
    with model_at(path, base=base) as opened:
        watched, running = hashed(opened)
        for part in watched.components.values():
            load(part.network(), part.source)
        return running.hexdigest()


def test_the_weights_are_read_once_while_they_are_loaded_and_hashed(model):
    path, base, size = model
    expected = weights_hash(path, base=base)
    for work in (loaded_and_hashed, lambda path, base: load_model(path, base=base) and expected):
        work(path, base)  # modules are imported, networks traced
        before = bytes_read()
        assert work(path, base) == expected
        # Small tensors are read with some of what is around them.
        assert size < bytes_read() - before < 1.6 * size


def test_what_was_read_in_another_order_is_hashed_all_the_same(pipeline_folder):
    with model_at(pipeline_folder) as opened:
        watched, running = hashed(opened)
        for part in reversed(watched.components.values()):
            for name in sorted(part.source.tensors, reverse=True)[:3]:
                part.source.read(name)
        assert running.hexdigest() == weights_hash(pipeline_folder)
        alone = dataclasses.replace(opened, components={"vae": opened.components["vae"]})
        assert hashed(alone)[1].hexdigest() == weights_hash(pipeline_folder / "vae")
