"""A folder is there completely or not at all, and nobody's folder is lost."""

import json
import shutil
import subprocess
import sys

import pytest
from etils import epath

from mre_jax.errors import BusyError, DataError
from mre_jax.weights.opening import open_model
from mre_jax.weights.save import model_index, new_folder, save_model


def fill(folder):
    (folder / "sub").mkdir()
    (folder / "sub/file").write_text("new")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_at_the_end(tmp_path):
    target = tmp_path / "deep" / "model"
    with new_folder(target) as folder:
        fill(folder)
        assert not target.exists()
    assert (target / "sub/file").read_text() == "new"
    assert names(target.parent) == ["model"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "model") as folder:
        fill(folder)
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept_unless_forced(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    with new_folder(target):  # an empty folder is no loss
        pass
    (target / "mine").write_text("precious")
    with pytest.raises(DataError, match=r"model is not empty; .*--force"), new_folder(target):
        pytest.fail("entered")
    with pytest.raises(RuntimeError), new_folder(target, force=True):
        raise RuntimeError
    assert (target / "mine").read_text() == "precious"
    with new_folder(target, force=True) as folder:
        fill(folder)
    assert names(target) == ["sub"] and names(tmp_path) == ["model"]
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(DataError, match="is a file"), new_folder(file, force=True):
        pytest.fail("entered")


def test_two_writers_of_one_folder_do_not_mix(tmp_path):
    target = tmp_path / "model"
    with new_folder(target) as folder:
        fill(folder)
        with pytest.raises(BusyError, match="model: another process is"), new_folder(target):
            pytest.fail("entered")
    assert (target / "sub/file").exists()


def test_a_killed_writer_is_cleaned_up_by_the_next(tmp_path):
    target = tmp_path / "model"
    code = f"""
import os, signal
from mre_jax.weights.save import new_folder
with new_folder({str(target)!r}) as folder:
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not target.exists()
    with new_folder(target) as folder:
        fill(folder)
    assert names(target) == ["sub"] and names(tmp_path) == ["model"]


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no space left"), new_folder(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_bucket_gets_the_index_last(tmp_path, monkeypatch):
    order = []
    real = epath.Path
    bucket = real(tmp_path / "bucket")
    copy = type(bucket).copy

    def recording(self, target, **kwargs):
        order.append(str(target))
        return copy(self, target, **kwargs)

    monkeypatch.setattr(type(bucket), "copy", recording)
    monkeypatch.setattr(epath, "Path", lambda path: real(str(path).replace("gs://b", str(bucket))))
    with new_folder("gs://b/model") as folder:
        (folder / "model_index.json").write_text("{}")
        fill(folder)
    assert order == [str(bucket / "model/sub/file"), str(bucket / "model/model_index.json")]
    with pytest.raises(DataError, match="not empty"), new_folder("gs://b/model"):
        pytest.fail("entered")


def test_the_safety_checker_is_copied_and_foreign_entries_survive(pipeline_folder, tmp_path):
    source = shutil.copytree(pipeline_folder, tmp_path / "source")
    (source / "safety_checker").mkdir()
    (source / "safety_checker/model.safetensors").write_bytes(b"opaque")
    index = json.loads((source / "model_index.json").read_text())
    checker = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index |= {"_class_name": "StableDiffusionPipeline", "safety_checker": checker}
    index |= {"image_encoder": ["transformers", "CLIPVisionModel"], "_name_or_path": "somewhere"}
    (source / "model_index.json").write_text(json.dumps(index))
    save_model(open_model(source), tmp_path / "out")
    assert (tmp_path / "out/safety_checker/model.safetensors").read_bytes() == b"opaque"
    written = json.loads((tmp_path / "out/model_index.json").read_text())
    assert written["_class_name"] == "StableDiffusionInstructPix2PixPipeline"
    assert written["safety_checker"] == checker and written["requires_safety_checker"]
    assert written["image_encoder"] == [None, None]
    assert written["_name_or_path"] == "somewhere"
    assert written["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert written["tokenizer"] == index["tokenizer"]


def test_unknown_configuration_keys_survive(pipeline_folder, tmp_path):
    source = shutil.copytree(pipeline_folder, tmp_path / "source")
    for component in ("unet", "vae"):
        path = source / component / "config.json"
        config = json.loads(path.read_text()) | {"mid_block_add_attention": True, "unknown": [1]}
        path.write_text(json.dumps(config))
    save_model(open_model(source, in_channels=8), tmp_path / "out")
    for component in ("unet", "vae"):
        path = f"{component}/config.json"
        assert (tmp_path / "out" / path).read_bytes() == (source / path).read_bytes()


def test_the_index_needs_no_source(original_file):
    model = open_model(original_file)
    index = model_index(model)
    assert index["scheduler"] == ["diffusers", "EulerAncestralDiscreteScheduler"]
    assert index["tokenizer"] == [None, None] and index["safety_checker"] == [None, None]
    assert index["requires_safety_checker"] is False


def test_a_scheduler_that_names_no_class_is_given_the_one_that_samples(pipeline_folder, tmp_path):
    source = shutil.copytree(pipeline_folder, tmp_path / "source")
    path = source / "scheduler/scheduler_config.json"
    config = json.loads(path.read_text())
    del config["_class_name"]
    path.write_text(json.dumps(config))
    index = model_index(open_model(source))
    assert index["scheduler"] == ["diffusers", "EulerAncestralDiscreteScheduler"]


def test_code_beside_a_tokenizer_is_not_handed_on(pipeline_folder, tmp_path):
    source = shutil.copytree(pipeline_folder, tmp_path / "source")
    (source / "tokenizer/tokenization.py").write_text("import os")
    save_model(open_model(source), tmp_path / "out")
    assert not (tmp_path / "out/tokenizer/tokenization.py").exists()
    assert (tmp_path / "out/tokenizer/tokenizer_config.json").exists()
