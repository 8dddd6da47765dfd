"""Tiny models on disk, made once a run."""

import warnings

import pytest

from tests.weights import tiny


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """A tiny InstructPix2Pix as diffusers saves it; not to be written to."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tiny.write_pipeline(tmp_path_factory.mktemp("pipeline") / "model")


@pytest.fixture(scope="session")
def original_file(tmp_path_factory):
    """The same sizes as one file in the original layout, with an EMA of half the weights."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("original") / "model.ckpt"
    models = tiny.make_unet(), tiny.make_vae(), tiny.make_text_encoder()
    torch.save(tiny.original_checkpoint(*models, average=0.5), path)
    return path
