"""A model folder as diffusers lays it out, or one component of it."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mre_jax.errors import DataError
from mre_jax.weights.orbax_folder import FOLDER as ORBAX
from mre_jax.weights.orbax_folder import OrbaxComponent
from mre_jax.weights.source import TensorSource, open_tensors

COMPONENTS = ("unet", "vae", "text_encoder")
MODEL_INDEX = "model_index.json"
SAFETY_CHECKER = "safety_checker"


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """Which components a folder has, and where.

    Attributes:
        path: the folder.
        components: those of `COMPONENTS` that are there, each with its own folder.
        lone: the folder is itself one component, such as a `unet/` by itself.
    """

    path: Path
    components: Mapping[str, Path]
    lone: bool

    @classmethod
    def open(cls, path: Path, weights: str | None = None) -> "ModelFolder":
        """Recognises what is in `path`.

        Args:
            weights: "ema" or "raw", for the checkpoints of a training run that keep both as
                `unet_ema/` and `unet/`; None takes the moving average where there is one.

        Raises:
            DataError: when it is neither a model folder nor a component of a supported class, or
                has no moving average that was asked for.
        """
        if not path.is_dir():
            raise DataError(f"{path} is not a folder")
        found = {
            name: path / name for name in COMPONENTS if (path / name / "config.json").is_file()
        }
        if weights != "raw" and (path / _AVERAGE / "config.json").is_file():
            found["unet"] = path / _AVERAGE
        elif weights == "ema":
            raise DataError(f"{path} holds no EMA weights; use --weights raw, or leave it out")
        if found:
            return cls(path, found, lone=False)
        if (path / "config.json").is_file():
            return cls(path, {_component(path): path}, lone=True)
        raise DataError(
            f"{path} holds neither {MODEL_INDEX} and folders such as unet/, nor a component's "
            "config.json and weights"
        )

    def config(self, component: str) -> dict[str, Any]:
        """The component's config.json.

        Raises:
            DataError: when the component or its configuration is missing or damaged.
        """
        return read_json(self._folder(component) / "config.json")

    def tensors(self, component: str) -> TensorSource:
        """The component's weights under the names they are stored by.

        Raises:
            DataError: when the component or its weights are missing or damaged.
        """
        folder = self._folder(component)
        if (folder / ORBAX).is_dir():
            return OrbaxComponent(folder)
        for stem in ("diffusion_pytorch_model", "model", "pytorch_model"):
            for ending in _ENDINGS:
                if (folder / f"{stem}{ending}").is_file():
                    return open_tensors(folder / f"{stem}{ending}")
        raise DataError(
            f"{folder} holds no weights: expected diffusion_pytorch_model.safetensors, "
            "model.safetensors, the same in shards, or a .bin"
        )

    def files(self) -> dict[str, bytes]:
        """The small files that are not weights, by path in the folder: tokenizer and the like."""
        if self.lone:
            return {}
        paths = [self.path / MODEL_INDEX]
        for name in _SMALL_FOLDERS:
            paths += sorted((self.path / name).glob("*"))
        return {
            str(path.relative_to(self.path)): path.read_bytes() for path in paths if path.is_file()
        }

    @property
    def has_averages(self) -> bool:
        """Whether the UNet's weights are the moving average of a training run."""
        return self.components.get("unet") == self.path / _AVERAGE

    @property
    def safety_checker(self) -> Path | None:
        """The folder of the safety checker, which is copied and never opened."""
        path = self.path / SAFETY_CHECKER
        return path if path.is_dir() and not self.lone else None

    def _folder(self, component: str) -> Path:
        if component not in self.components:
            raise DataError(
                f"{self.path} lacks {component}/; take a complete folder, or name one that has it "
                "with --base"
            )
        return self.components[component]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: when the file is missing or holds anything else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} does not hold a JSON object")
    return value


def _component(path: Path) -> str:
    config = read_json(path / "config.json")
    kinds = [config.get("_class_name"), *config.get("architectures", ())]
    for kind in kinds:
        if kind in _CLASSES:
            return _CLASSES[kind]
    raise DataError(
        f"{path}/config.json is of the class {kinds[0] if len(kinds) == 1 else kinds[1]}; "
        f"supported are {', '.join(_CLASSES)}"
    )


_CLASSES = {
    "UNet2DConditionModel": "unet",
    "RewardUNet2DConditionModel": "unet",
    "AutoencoderKL": "vae",
    "CLIPTextModel": "text_encoder",
}

_ENDINGS = (
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".bin",
)

_AVERAGE = "unet_ema"
_SMALL_FOLDERS = ("tokenizer", "scheduler", "feature_extractor")
