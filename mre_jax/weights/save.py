"""Writing a model folder: all of it or nothing."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.files import full_disk_is_an_error, locked, reached
from mre_jax.io.json_file import to_bytes
from mre_jax.weights.files.folder import MODEL_INDEX, SAFETY_CHECKER, SMARTEDIT
from mre_jax.weights.files.orbax_folder import write_orbax
from mre_jax.weights.files.source import BFLOAT16, Cast, renamed
from mre_jax.weights.files.writer import canonical_order, write_weights
from mre_jax.weights.load import Model
from mre_jax.weights.model import (
    REWARD_CLASS,
    Component,
    PretrainedModel,
    changed,
    require_tokenizer,
)
from mre_jax.weights.names.aliases import to_released
from mre_jax.weights.names.rule import expected_tensors, parameters
from mre_jax.weights.names.strict import stream
from mre_jax.weights.smartedit_release import write_release
from mre_jax.weights.surroundings import scheduler_config, with_scheduler

FORMATS = ("diffusers", "orbax", "smartedit")
DTYPES = {
    "same": None,
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": BFLOAT16,
}


def save_model(
    model: PretrainedModel | Model,
    target: epath.PathLike,
    *,
    format: str = "diffusers",
    dtype: str = "same",
    force: bool = False,
    tokenizer: bool = True,
) -> dict[str, str]:
    """Write `model` as a folder (or, for a lone component, as that component's folder).

    A reader sees the whole folder or none: it is written beside `target` and renamed at the end.

    Args:
        model: one that is open, or one whose networks are in memory.
        target: a local path or `gs://...`.
        format: "diffusers", which PyTorch loads, "orbax", our own, or "smartedit", the files of
            SmartEdit's official release, for its code.
        dtype: dtype of the weights, a key of `DTYPES`.
        force: replace a folder that is already there.
        tokenizer: without it a model that lacks its tokenizer is refused.

    Returns:
        SHA-256 by path in the folder.

    Raises:
        DataError: when the weights do not fit their configuration, `target` is taken, the disk is
            full, or the tokenizer is missing.
        ConfigError: for an unknown format or dtype, or a configuration that is not supported.

    Example:
        >>> from mre_jax.weights.opening import model_at
        >>> with model_at(TOY) as model:
        ...     hashes = save_model(model, OUT, dtype="bfloat16")
        >>> [path for path in hashes if path.startswith("unet/")]
        ['unet/config.json', 'unet/diffusion_pytorch_model.safetensors']
    """
    if format not in FORMATS or dtype not in DTYPES:
        raise ConfigError(
            f"format {format!r} or dtype {dtype!r} is unknown; use one of {', '.join(FORMATS)} and "
            f"one of {', '.join(DTYPES)}"
        )
    if isinstance(model, Model):
        model = model.pretrained()
    if tokenizer and not model.lone:
        require_tokenizer(model, ", or leave it out with --no-tokenizer")
    with new_folder(target, force=force) as folder:
        size = sum(part.parameters for part in model.components.values())
        written: Mapping[Path, str] = {}
        title = f"writing {target}"
        with tqdm(total=size, unit=" weights", unit_scale=True, desc=title, disable=None) as bar:
            if format == "smartedit":
                write_release(_cast(model, dtype), folder, functools.partial(_counted, bar=bar))
            else:
                written = _save_folder(model, folder, format, dtype, bar)
        return {
            str(path.relative_to(folder)): written.get(path) or _sha256(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file() and "orbax" not in path.parts
        }


@contextlib.contextmanager
def new_folder(target: epath.PathLike, *, force: bool = False) -> Iterator[Path]:
    """A folder to fill; it becomes `target` when the block ends, and vanishes if the block raises.

    Raises:
        DataError: when `target` is a file, or a folder with contents and not `force`.
        BusyError: when another process is writing it.
    """
    if "://" in str(target):
        with reached(target) as remote:
            _require_free(remote, force)
        with tempfile.TemporaryDirectory(prefix="mre-save-") as staged:
            yield Path(staged)
            with reached(target) as remote:
                _upload(Path(staged), remote)
        return
    local = Path(target).absolute()
    _require_free(local, force)
    partial = local.with_name(f".{local.name}.partial")
    local.parent.mkdir(parents=True, exist_ok=True)
    lock = locked(local.parent, f"{partial.name}.lock", filling=local, keep=False)
    with lock, full_disk_is_an_error(local):
        if partial.exists():  # what an earlier, killed run left
            shutil.rmtree(partial)
        partial.mkdir()
        try:
            yield partial
        except BaseException:
            shutil.rmtree(partial)
            raise
        _replace(partial, local)


def model_index(model: PretrainedModel) -> dict[str, Any]:
    """The model_index.json: what each part of the folder is, for PyTorch's pipeline."""
    stated = json.loads(model.files.get(MODEL_INDEX, b"{}"))
    folders = {name.split("/")[0] for name in model.files if "/" in name} | set(model.components)
    if model.safety_checker is not None:
        folders.add(SAFETY_CHECKER)
    unet = model.components.get("unet")
    classes = {
        **_CLASSES,
        # diffusers looks this one up among the modules that are imported already.
        **({"unet": ["mre_jax.pytorch", REWARD_CLASS]} if unet and unet.reward else {}),
    }
    scheduler = scheduler_config(with_scheduler(model.files)[0], model.origin)
    classes["scheduler"] = ["diffusers", scheduler.get("_class_name") or _SCHEDULER]
    index: dict[str, Any] = {"_class_name": _PIPELINE, "_diffusers_version": "0.40.0"}
    index |= {key: value for key, value in stated.items() if key != "_class_name"}
    if "llm" in model.components:
        index["_class_name"] = _SMARTEDIT_PIPELINE
    for key in {*classes, *(key for key, value in stated.items() if isinstance(value, list))}:
        if key not in folders | {"scheduler"}:
            if key not in (*SMARTEDIT, "llm_tokenizer"):
                index[key] = [None, None]
        elif key in model.components or not isinstance(index.get(key), list):
            index[key] = classes.get(key, [None, None])
    index["requires_safety_checker"] = model.safety_checker is not None
    return index


def _save_folder(
    model: PretrainedModel, folder: Path, format: str, dtype: str, bar: tqdm
) -> dict[Path, str]:
    written: dict[Path, str] = {}
    for component in model.components.values():
        place = folder if model.lone else folder / component.name
        written |= _save_component(component, place, format, dtype, bar)
    if not model.lone:
        _save_surroundings(model, folder)
    return written


def _cast(model: PretrainedModel, dtype: str) -> PretrainedModel:
    if (wanted := DTYPES[dtype]) is None:
        return model
    components = {
        name: dataclasses.replace(part, source=Cast(part.source, wanted))
        for name, part in model.components.items()
    }
    return dataclasses.replace(model, components=components)


def _save_component(
    component: Component, folder: Path, format: str, dtype: str, bar: tqdm
) -> dict[Path, str]:
    folder.mkdir(exist_ok=True)
    network = component.network()
    expected = expected_tensors(network)
    source = component.source
    if (wanted := DTYPES[dtype]) is not None:
        source = Cast(source, wanted)
        component = _with_dtype(component, dtype)
    (folder / "config.json").write_bytes(component.text)
    if format == "orbax":
        paths = {name: path for name, (path, _) in parameters(network).items()}
        write_orbax(folder, paths, _counted(stream(expected, source), bar))
        return {}
    if component.reward is not None and component.reward.form == "released":
        expected = {to_released(name): shape for name, shape in expected.items()}
        source = renamed(source, to_released)
    infos = {name: source.tensors[name] for name in expected if name in source.tensors}
    arrays = _counted(stream(expected, source, canonical_order(infos)), bar)
    return write_weights(folder / _WEIGHTS.get(component.name, _MODEL), infos, arrays)


def _save_surroundings(model: PretrainedModel, folder: Path) -> None:
    files, _ = with_scheduler(model.files)
    files[MODEL_INDEX] = to_bytes(model_index(model))
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    if model.safety_checker is not None:
        shutil.copytree(model.safety_checker, folder / SAFETY_CHECKER)


def _with_dtype(component: Component, dtype: str) -> Component:
    """transformers notes the dtype of the weights in its configuration."""
    stated = [key for key in ("torch_dtype", "dtype") if key in component.config]
    return changed(component, **dict.fromkeys(stated, dtype))


def _counted(
    arrays: Iterator[tuple[str, np.ndarray]], bar: tqdm
) -> Iterator[tuple[str, np.ndarray]]:
    for name, array in arrays:
        size = array.size
        yield name, array
        del array  # else it would stay in memory while the next is read
        bar.update(size)


def _require_free(target: Path | epath.Path, force: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise DataError(f"{target} is a file; name a folder to write to")
    if any(target.iterdir()) and not force:
        raise DataError(f"{target} is not empty; name another folder, or replace it with --force")


def _replace(partial: Path, target: Path) -> None:
    _sync(partial)
    if target.is_dir() and any(target.iterdir()):
        old = target.with_name(f".{target.name}.old")
        if old.exists():
            shutil.rmtree(old)
        target.rename(old)
        partial.rename(target)
        shutil.rmtree(old)
    else:
        partial.rename(target)


def _sync(folder: Path) -> None:
    """Bring every file to the disk before the folder gets its name."""
    for path in (*folder.rglob("*"), folder):
        if _WINDOWS and path.is_dir():  # which has no handle for a folder
            continue
        descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _upload(folder: Path, remote: epath.Path) -> None:
    """Copy to a bucket; what shows a reader that the folder is complete comes last."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: (path.name == MODEL_INDEX, str(path))):
        place = remote / str(path.relative_to(folder))
        place.parent.mkdir(parents=True, exist_ok=True)
        epath.Path(path).copy(place, overwrite=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_WINDOWS = os.name == "nt"
_PIPELINE = "StableDiffusionInstructPix2PixPipeline"
_SMARTEDIT_PIPELINE = "SmartEditPipeline"
_SCHEDULER = "EulerAncestralDiscreteScheduler"
"""That edits here with a model whose scheduler does not say what it is."""
_CLASSES: Mapping[str, Any] = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    **{name: ["mre_jax.models", name] for name in (*SMARTEDIT, "llm_tokenizer")},
}
_WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
}
_MODEL = "model.safetensors"
