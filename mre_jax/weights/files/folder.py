"""A model folder as diffusers lays it out, or one component of it."""

import codecs
import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mre_jax.errors import DataError
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.io.json_file import read_object
from mre_jax.weights.files.orbax_folder import FOLDER as ORBAX
from mre_jax.weights.files.orbax_folder import OrbaxComponent
from mre_jax.weights.files.source import WEIGHT_SUFFIXES, TensorSource, open_tensors
from mre_jax.weights.files.weight_files import WeightSet, choose
from mre_jax.weights.names.strict import shortened

COMPONENTS = ("unet", "vae", "text_encoder")
SMARTEDIT = ("llm", "vision", "projector", "qformer", "bim")
"""Networks that SmartEdit has besides."""
MODEL_INDEX = "model_index.json"
SAFETY_CHECKER = "safety_checker"
AVERAGE = "unet_ema"
SMALL_FILES = (".json", ".txt", ".model")
SMALL_FOLDERS = ("tokenizer", "scheduler", "feature_extractor", "llm_tokenizer")


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """Which components a folder has, and where.

    Attributes:
        path: the folder.
        components: networks of `COMPONENTS` and `SMARTEDIT` that are there, each with its folder.
        lone: the folder is itself one component, such as a `unet/` by itself.
        weights: "ema" or "raw", which of both to take; None prefers the moving average.
    """

    path: Path
    components: Mapping[str, Path]
    lone: bool
    weights: str | None = None

    @classmethod
    def open(cls, path: Path, weights: str | None = None) -> "ModelFolder":
        """Recognises what is in `path`.

        Args:
            weights: "ema" or "raw", for folders that keep both, as `unet_ema/` and `unet/` or
                with the variant non_ema or ema; None takes the moving average where there is one.

        Raises:
            DataError: when it is neither a model folder nor a component of a supported class.
        """
        if not path.is_dir():
            raise DataError(f"{path} is not a folder")
        _require_stable_diffusion(path)
        names = (*COMPONENTS, *SMARTEDIT)
        found = {name: path / name for name in names if _is_component(path / name)}
        if weights != "raw" and _is_component(path / AVERAGE):
            found["unet"] = path / AVERAGE
        if found:
            return cls(path, found, lone=False, weights=weights)
        if (path / "config.json").is_file():
            return cls(path, {_component(path): path}, lone=True, weights=weights)
        raise DataError(_no_model(path))

    def config(self, component: str) -> tuple[dict[str, Any], bytes]:
        """The component's config.json, and its text.

        Raises:
            DataError: when the component or its configuration is missing or damaged, or is that of
                another class.
        """
        path = self._folder(component) / "config.json"
        config = read_object(path)
        classes = _classes(config)
        if (
            component in COMPONENTS
            and classes
            and all(_CLASSES.get(name) != component for name in classes)
        ):
            known = [name for name, kind in _CLASSES.items() if kind == component]
            raise DataError(
                f"{path} is of the class {classes[0]}; a {component} is a {' or '.join(known)}"
            )
        return config, _content(path)

    def tensors(self, component: str) -> TensorSource:
        """The component's weights under the names they are stored by.

        Raises:
            DataError: when the component or its weights are missing or damaged, or are not of the
                kind that was asked for.
        """
        folder = self._folder(component)
        if component == "unet":
            self._require_weights()
        if (folder / ORBAX).is_dir():
            return OrbaxComponent(folder)
        taken, _ = self._chosen(component)
        return open_tensors(folder / taken.entry)

    def choice(self, component: str) -> list[str]:
        """A note on which weights of the component are taken, where there are several."""
        folder = self._folder(component)
        if (folder / ORBAX).is_dir():
            return []
        taken, others = self._chosen(component)
        said = f"{component}: {taken.entry} taken, not {shortened(others)}"
        return [said] if others else []

    def unused(self) -> list[str]:
        """Notes on files that change a model for other programs, and are not read here."""
        places = {self.path, *self.components.values()}
        return [
            f"{path.relative_to(self.path)} is {kind}"
            for place in sorted(places)
            for path in sorted(place.iterdir())
            for kind in _kinds(path.name)
        ]

    def files(self) -> dict[str, bytes]:
        """The small files of data beside the weights, by path in the folder: the tokenizer's, ...

        Code that lies there, which is never run, is left.

        Raises:
            DataError: for a configuration that is damaged, or a file that Git LFS left out.
        """
        if self.lone:
            return {}
        paths = [self.path / MODEL_INDEX]
        for name in SMALL_FOLDERS:
            paths += sorted((self.path / name).glob("*"))
        paths = [path for path in paths if path.is_file() and _is_small(path.name)]
        for path in paths:
            refuse_lfs_pointer(path)
            if path.name.endswith(("config.json", MODEL_INDEX)):
                read_object(path)
        return {str(path.relative_to(self.path)): _content(path) for path in paths}

    @property
    def unet_weights(self) -> str:
        """What the UNet's weights are: "ema", "raw", or "only" where nothing says."""
        folder = self.components.get("unet")
        if folder == self.path / AVERAGE:
            return "ema"
        unmarked = folder is None or (folder / ORBAX).is_dir()
        return "only" if unmarked else self._chosen("unet")[0].weights

    @property
    def safety_checker(self) -> Path | None:
        """The folder of the safety checker, which is copied and never opened."""
        path = self.path / SAFETY_CHECKER
        return path if path.is_dir() and not self.lone else None

    def _require_weights(self) -> None:
        found = self.unet_weights
        if self.weights == "ema" and found != "ema":
            raise DataError(f"{self.path} holds no EMA weights; use --weights raw, or leave it out")
        if self.weights == "raw" and found == "ema":
            raise DataError(f"{self.path} holds EMA weights only; leave --weights raw out")

    def _chosen(self, component: str) -> tuple[WeightSet, list[str]]:
        folder = self._folder(component)
        names = sorted(path.name for path in folder.iterdir() if not path.is_dir())
        return require_weights(names, str(folder), self.weights)

    def _folder(self, component: str) -> Path:
        if component not in self.components:
            raise DataError(
                f"{self.path} lacks {component}/; take a complete folder, or name one that has it "
                "with --base"
            )
        return self.components[component]


def require_weights(
    names: Collection[str], folder: str, weights: str | None = None
) -> tuple[WeightSet, list[str]]:
    """`choose`, where a folder has to hold weights.

    Raises:
        DataError: that lists what the folder holds instead.
    """
    taken, others = choose(names, weights)
    if taken is None:
        raise DataError(
            f"{folder} holds no weights that can be read: it has "
            f"{shortened(list(names), 8) or 'no files'}; wanted is "
            "diffusion_pytorch_model, model or pytorch_model, .safetensors or .bin, or the index "
            "of their shards"
        )
    return taken, others


def _content(path: Path) -> bytes:
    """The bytes of a small file, without the mark that Windows's editors put before a text."""
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def _is_small(name: str) -> bool:
    # macOS keeps its notes on a file in another of the same suffix.
    return name.endswith(SMALL_FILES) and not name.startswith(".")


def _is_component(folder: Path) -> bool:
    """Whether a folder has a configuration.

    Raises:
        DataError: when it has weights alone: they are not to be overlooked.
    """
    config = folder / "config.json"
    if config.is_file() or not folder.is_dir():
        return config.is_file()
    taken, _ = choose(path.name for path in folder.iterdir())
    if taken is None and not (folder / ORBAX).is_dir():
        return False
    lacks = "a config.json that is a link to nothing" if config.is_symlink() else "no config.json"
    raise DataError(
        f"{folder} holds weights and {lacks}; put that of the model they were made from beside them"
    )


def _no_model(path: Path) -> str:
    """What a folder holds in place of a model, and what to name instead."""
    names = sorted(child.name for child in path.iterdir())
    said = f"{path} is no model folder, and no component's"
    if kinds := [f"{name} is {kind}" for name in names for kind in _kinds(name)]:
        return f"{said}: {'; '.join(kinds)}"
    for pattern, advice in _SHARDED.items():
        if any(path.glob(pattern)):
            return f"{said}: {advice}"
    inside = {file.parent for pattern in _INSIDE for file in path.glob(pattern)}
    # The folder of a UNet says that its parent is the model.
    models = {p.parent if p.name in (*COMPONENTS, AVERAGE) else p for p in inside} - {path}
    if models:
        return f"{said}, but holds some; name one, as {min(models)}"
    if files := [name for name in names if name.endswith(WEIGHT_SUFFIXES)]:
        first = choose(files)[0]
        return f"{said}; name one of its files, as {path / (first.entry if first else files[0])}"
    return (
        f"{said}: it has {shortened(names) or 'nothing'}; wanted is {MODEL_INDEX} and folders "
        "such as unet/, or a component's config.json and weights"
    )


def _component(path: Path) -> str:
    classes = _classes(read_object(path / "config.json"))
    for name in classes:
        if name in _CLASSES:
            return _CLASSES[name]
    raise DataError(
        f"{path}/config.json is of the class {classes[0] if classes else None}; "
        f"supported are {', '.join(_CLASSES)}"
    )


def _classes(config: Mapping[str, Any]) -> list[str]:
    """What a config.json says it configures: of diffusers, or of transformers."""
    stated = [config.get("_class_name"), *(config.get("architectures") or ())]
    return [str(name) for name in stated if name]


def _require_stable_diffusion(path: Path) -> None:
    """Refuses the pipeline of another family by its name."""
    if not (path / MODEL_INDEX).is_file():
        return
    index = read_object(path / MODEL_INDEX)
    parts = {key for key, value in index.items() if isinstance(value, list) and any(value)}
    if foreign := sorted(parts - _PARTS):
        raise DataError(
            f"{path} is a {index.get('_class_name')}, with {', '.join(foreign)}: no pipeline of "
            "the Stable Diffusion 1.x family"
        )


def _kinds(name: str) -> list[str]:
    """What a weight file of this name is, if it is no model."""
    words = name.lower()
    if not words.endswith(WEIGHT_SUFFIXES):
        return []
    return [kind for word, kind in _ADDITIONS.items() if word in words][:1]


_CLASSES = {
    "UNet2DConditionModel": "unet",
    "RewardUNet2DConditionModel": "unet",
    "AutoencoderKL": "vae",
    "CLIPTextModel": "text_encoder",
    # Its projection is left out.
    "CLIPTextModelWithProjection": "text_encoder",
}

# Where the models of a trainer's folder, or of the hub's cache, are.
_INSIDE = ("*/model_index.json", "*/config.json", "*/*/config.json", "snapshots/*/*.json")
_SHARDED = {
    "zero_to_fp32.py": "DeepSpeed's shards; run its zero_to_fp32.py, and name the file it writes",
    "*/*.distcp": "shards of torch.distributed; join them with accelerate merge-weights, and "
    "name the file it writes",
}

_PARTS = {
    *("unet", "vae", "text_encoder", "tokenizer", "scheduler", "safety_checker"),
    *("feature_extractor", "image_encoder", "llm_tokenizer", *SMARTEDIT),
}

_ADDITIONS = {
    "lora": "a LoRA, merged only where --lora names it",
    "adapter_model": "an adapter, merged only where --lora names it",
    "learned_embeds": "a textual inversion embedding, which is not used",
    "ip-adapter": "an IP-Adapter, which is not used",
    "ip_adapter": "an IP-Adapter, which is not used",
    "control": "a ControlNet, which is not used",
}
