"""`mre export RUN --out DIR`: the model that a run has trained, as a folder for editing with it."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mre_jax.commands.model_options import add_lora
from mre_jax.errors import ConfigError
from mre_jax.training.checkpoints.checkpoint import Restored, restore_params
from mre_jax.training.config import ModelConfig
from mre_jax.training.run.directory import Identity, RunDirectory
from mre_jax.weights.checkpoint import (
    REWARD_CLASS,
    Checkpoint,
    Component,
    changed,
    checkpoint_at,
    with_loras,
)
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.lora import Loras, opened_loras, parse_loras
from mre_jax.weights.names.rule import to_torch, torch_name, torch_shape
from mre_jax.weights.save import DTYPES, save_checkpoint
from mre_jax.weights.surroundings import SCHEDULER

FORMATS = ("diffusers", "orbax", "released")
WEIGHTS = ("ema", "raw")
EXPORT = "export.json"


class TrainedTensors(TensorSource):
    """The parameters of a run's checkpoint as PyTorch's tensors.

    Args:
        params: arrays by dotted path in our modules.
        origin: what error messages call them.
    """

    def __init__(self, params: Mapping[str, np.ndarray], origin: str):
        self.origin = origin
        self._params = params
        self._keys = {torch_name(key.split(".")): key for key in params}
        self.tensors = {
            name: TensorInfo(torch_shape(key.split("."), params[key].shape), params[key].dtype)
            for name, key in self._keys.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        key = self._keys[name]
        return to_torch(key.split("."), np.asarray(self._params[key]))[1]


def export(
    run: epath.PathLike,
    out: epath.PathLike,
    *,
    format: str = "diffusers",
    step: int | None = None,
    weights: str | None = None,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    dtype: str = "same",
    force: bool = False,
) -> dict[str, Any]:
    """Writes the model of a run as a folder; the run is not changed, and may be under way.

    All but the UNet (VAE, text encoder, tokenizer, scheduler) is that of the run's
    `model.init_from`.

    Args:
        run: its directory, local or `gs://...`.
        out: a new folder, local or `gs://...`.
        format: "diffusers", "orbax", or "released", which is diffusers' with the released code's
            names and wants a model of that form.
        step: of a checkpoint; None is the newest sound one.
        weights: "ema", the moving average, or "raw"; None is "ema" where the run keeps one.
        base: a model to use in place of `model.init_from`, where that has moved.
        lora: LoRA files to merge into the trained UNet and its text encoder, as `load_model` takes
            them.
        dtype: "same" (float32), "float32", "float16" or "bfloat16".
        force: replace `out`.

    Returns:
        `step`, `weights`, newer checkpoints that were `skipped` as damaged, `notes` on what was
        merged, and SHA-256 of the `files` by path.

    Raises:
        ConfigError: if the run has no such checkpoint or weights, or not that format.
        DataError: if there is no run, or its checkpoint or the base is missing or damaged.
    """
    directory = RunDirectory(run, writes=False)
    identity = directory.identity()
    config = identity.config
    _check_format(format, config.model)
    weights = weights or ("raw" if config.model.ema_decay is None else "ema")
    which = "ema" if weights == "ema" else "params"
    restored = restore_params(directory.checkpoints, step, which)
    with (
        opened_loras(parse_loras(lora)) as loras,
        checkpoint_at(
            config.model.init_from if base is None else base,
            base=config.model.base,
            in_channels=config.model.in_channels,
            components=COMPONENTS,
        ) as model,
    ):
        trained = with_loras(_trained(model, identity, restored, weights), loras)
        files = save_checkpoint(
            trained,
            out,
            format="orbax" if format == "orbax" else "diffusers",
            dtype=dtype,
            force=force,
        )
    return {
        "step": restored.step,
        "weights": weights,
        "skipped": list(restored.skipped),
        "notes": list(trained.notes),
        "files": files,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mre export`."""
    parser.add_argument("run", metavar="RUN", help="the directory of `mre train`")
    parser.add_argument("--out", required=True, metavar="DIR", help="the model folder to write")
    parser.add_argument("--format", choices=FORMATS, default="diffusers")
    parser.add_argument("--step", type=int, metavar="N", help="default: the newest checkpoint")
    parser.add_argument(
        "--weights", choices=WEIGHTS, help="moving average or not (default: ema if there is one)"
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="for all but the UNet (default: the run's model.init_from)"
    )
    add_lora(parser)
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="same")
    parser.add_argument("--force", action="store_true", help="replace DIR")


def run(args: argparse.Namespace) -> int:
    """Carries out `mre export`.

    Raises:
        DataError, ConfigError: as `export`.
    """
    options = ("format", "step", "weights", "base", "lora", "dtype", "force")
    report = export(args.run, args.out, **{name: getattr(args, name) for name in options})
    for reason in report["skipped"]:
        print(f"warning: {reason}", file=sys.stderr)
    for note in report["notes"]:
        print(note)
    print(f"wrote step {report['step']} ({report['weights']} weights) to {args.out}")
    return 0


def _check_format(format: str, model: ModelConfig) -> None:
    if format not in FORMATS:
        raise ConfigError(f"format {format!r} is not one of {', '.join(FORMATS)}")
    reward = model.reward
    if format == "released" and (reward is None or reward.form != "released"):
        form = "no reward condition" if reward is None else f"the form {reward.form!r}"
        raise ConfigError(
            f"format 'released' wants model.reward.form=released, and this run has {form}; "
            "take the format diffusers"
        )


def _trained(model: Checkpoint, identity: Identity, restored: Restored, weights: str) -> Checkpoint:
    """`model` with the UNet, the prediction type and the origin of a run."""
    config = identity.config
    source = TrainedTensors(restored.state, f"step {restored.step}")
    unet = _with_reward(model.components["unet"], config.model)
    unet = dataclasses.replace(unet, source=source)
    about = {
        "name": config.name,
        "step": restored.step,
        "weights": weights,
        "config_hash": config.hash,
        "data": list(identity.data),
        "init": identity.init,
    }
    files = {**model.files, EXPORT: (json.dumps(about, indent=2) + "\n").encode()}
    if config.loss.prediction_type is not None:
        files[SCHEDULER] = _scheduler(model.files, config.loss.prediction_type)
    components = {**model.components, "unet": unet}
    return dataclasses.replace(model, components=components, files=files, notes=())


def _with_reward(unet: Component, model: ModelConfig) -> Component:
    if model.reward is None or not model.reward.enabled:
        return unet
    return changed(unet, _class_name=REWARD_CLASS, reward=model.reward.to_dict())


def _scheduler(files: Mapping[str, bytes], prediction_type: str) -> bytes:
    stated = {**json.loads(files[SCHEDULER]), "prediction_type": prediction_type}
    return (json.dumps(stated, indent=2) + "\n").encode()
