"""Tiny models on disk, made once a run."""

import shutil
import warnings

import pytest

from mre_jax.weights.opening import open_model
from tests.weights import lora_files, tiny
from tests.weights.lora_files import QUERY, write


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory):
    """A tiny InstructPix2Pix as diffusers saves it; not to be written to."""
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tiny.write_pipeline(tmp_path_factory.mktemp("pipeline") / "model")


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """A tiny official release of SmartEdit; not to be written to."""
    pytest.importorskip("torch")
    from tests.weights import tiny_release

    return tiny_release.write(tmp_path_factory.mktemp("release"))


@pytest.fixture
def folder(pipeline_folder, tmp_path):
    """A copy that a test may spoil."""
    return shutil.copytree(pipeline_folder, tmp_path / "model")


@pytest.fixture(scope="session")
def original_file(tmp_path_factory):
    """The same sizes as one file in the original layout, with an EMA of half the weights."""
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("original") / "model.ckpt"
    models = tiny.make_unet(), tiny.make_vae(), tiny.make_text_encoder()
    torch.save(tiny.original_checkpoint(*models, average=0.5), path)
    return path


@pytest.fixture(scope="session")
def shapes(pipeline_folder):
    """Of the tensors of each network of `pipeline_folder`."""
    return {
        name: {key: info.shape for key, info in part.source.tensors.items()}
        for name, part in open_model(pipeline_folder).components.items()
    }


@pytest.fixture(scope="session")
def layers(shapes):
    """A LoRA of the UNet and one of the text encoder."""
    return (
        lora_files.make(shapes["unet"], lora_files.UNET, rank=4, alpha=7.0),
        lora_files.make(shapes["text_encoder"], lora_files.TEXT, rank=2, alpha=3.0),
    )


@pytest.fixture
def kohya(layers, tmp_path):
    return write(tmp_path / "kohya.safetensors", lora_files.kohya(*layers))


@pytest.fixture
def small(tmp_path, shapes):
    """A writer of a LoRA of a single layer, with other tensors in its place or beside them."""
    unet = lora_files.make(shapes["unet"], [QUERY], rank=4, alpha=4.0)
    plain = lora_files.peft(unet, lora_files.Layers({}, 1.0))

    def written(changed=(), name="small.safetensors", **metadata):
        changed = dict(changed)
        chosen = {k: v for k, v in {**plain, **changed}.items() if v is not None}
        return write(tmp_path / name, chosen, **metadata)

    return written
