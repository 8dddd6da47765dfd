"""A model of any supported kind, brought to a model folder."""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.io.json_file import read_object
from mre_jax.weights import verify as verification
from mre_jax.weights.fresh_smartedit import with_fresh_smartedit
from mre_jax.weights.llava import llava_files, with_llava_rows
from mre_jax.weights.locate import local_path
from mre_jax.weights.lora import LoraLike
from mre_jax.weights.model import EDITOR, PretrainedModel
from mre_jax.weights.names.smartedit import HOMES as RELEASED
from mre_jax.weights.opening import model_at
from mre_jax.weights.save import save_model
from mre_jax.weights.tokens import is_tokenizer_file


@dataclasses.dataclass(frozen=True)
class ConvertSpec:
    """What to read, and how to write it.

    Attributes:
        src: a model folder, a component's folder, a CompVis .ckpt or SmartEdit's official release;
            a path, gs://..., or org/name@REVISION on the hub.
        dst: the folder to write; a path, or gs://... in a bucket.
        weights: moving average or not, of a model that has both (default: ema).
        in_channels: input channels of the UNet; new ones start at zero (default: an editor's, 8
            for Stable Diffusion; 4 keeps SD1.5's).
        config: JSON file whose entries replace the UNet's configuration.
        base: another model for what this one lacks: tokenizer, VAE, text encoder.
        lora: a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated.
        tokenizer: refuse a model that lacks its tokenizer.
        llava: folder of the LLaVA-v1.1 that a SmartEdit was trained from, whose rows for LLaMA's
            words are taken in place of the model's own, as the official code does.
        fresh_smartedit: folder of LLaVA-v1.1, with that of CLIP ViT-L/14 and vicuna's
            tokenizer.model in it, of which an editor becomes a SmartEdit before its stage 1.
        format: layout of the weights; orbax is our own, smartedit that of SmartEdit's official
            release, for its code.
        dtype: dtype of the weights.
        verify: compare the result with PyTorch (needs torch).
        force: replace DST.
    """

    src: epath.PathLike = dataclasses.field(metadata={"positional": True, "metavar": "SRC"})
    dst: epath.PathLike = dataclasses.field(metadata={"positional": True, "metavar": "DST"})
    weights: Literal["ema", "raw"] | None = None
    in_channels: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    config: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FILE"})
    base: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "MODEL"})
    lora: tuple[LoraLike, ...] = dataclasses.field(default=(), metadata={"metavar": "FILE[:SCALE]"})
    llava: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FOLDER"})
    fresh_smartedit: epath.PathLike | None = dataclasses.field(
        default=None, metadata={"metavar": "FOLDER"}
    )
    tokenizer: bool = True
    format: Literal["diffusers", "orbax", "smartedit"] = "diffusers"
    dtype: Literal["same", "float32", "float16", "bfloat16"] = "same"
    verify: bool = False
    force: bool = False


@dataclasses.dataclass(frozen=True)
class ConvertReport:
    """What was read and written.

    Attributes:
        source: the model that was read.
        kind: its kind; see `PretrainedModel`.
        weights: "ema", "raw" or "only", as `PretrainedModel` has them.
        tensors: how many of each component.
        parameters: how many of each component.
        files: SHA-256 by path in the written folder.
        notes: what was changed or assumed.
        relative_error: to PyTorch, by component and output; empty without `verify`.
    """

    source: str
    kind: str
    weights: str
    tensors: Mapping[str, int]
    parameters: Mapping[str, int]
    files: Mapping[str, str]
    notes: tuple[str, ...]
    relative_error: Mapping[str, float]

    @property
    def fits_pytorch(self) -> bool:
        """Whether no difference to PyTorch was found."""
        # Not a number compares false with everything, so ask for what is good.
        return all(error <= verification.TOLERANCE for error in self.relative_error.values())


def convert(spec: ConvertSpec) -> ConvertReport:
    """Reads the model `spec.src` and writes it as the folder `spec.dst`.

    Raises:
        DataError: when anything does not fit; then nothing is written.
        ConfigError: when settings contradict each other or the model is not supported.

    Example:
        >>> report = convert(ConvertSpec(TOY, "half", dtype="float16"))
        >>> report.kind, report.parameters["text_encoder"], report.notes
        ('diffusers', 152320, ())
    """
    if spec.verify and (spec.format != "diffusers" or "://" in str(spec.dst)):
        raise ConfigError("--verify needs a local folder in the format diffusers")
    with contextlib.ExitStack() as places:
        opened = model_at(
            spec.src,
            base=spec.base,
            lora=spec.lora,
            weights=spec.weights,
            in_channels=EDITOR if spec.in_channels is None else spec.in_channels,
            unet_config=None if spec.config is None else read_object(epath.Path(spec.config)),
        )
        model = places.enter_context(opened)
        if spec.llava is not None:
            llava = places.enter_context(local_path(spec.llava, llava_files))
            model = with_llava_rows(model, llava, str(spec.llava))
        if spec.fresh_smartedit is not None:
            folder = Path(spec.fresh_smartedit)
            model = with_fresh_smartedit(model, folder, str(folder))
        if "text_encoder" in model.components and any(map(is_tokenizer_file, model.files)):
            model.tokenizer()  # one that does not fit its encoder is found here, not in training
        files = save_model(
            model,
            spec.dst,
            format=spec.format,
            dtype=spec.dtype,
            force=spec.force,
            tokenizer=spec.tokenizer,
        )
    return ConvertReport(
        source=str(spec.src),
        kind=model.kind,
        weights=model.weights,
        tensors={name: len(part.source.tensors) for name, part in model.components.items()},
        parameters={name: part.parameters for name, part in model.components.items()},
        files=files,
        notes=(*model.notes, *_left_out(model, spec), *_unverified(model, spec)),
        relative_error=verification.verify(Path(spec.dst)) if spec.verify else {},
    )


def _left_out(model: PretrainedModel, spec: ConvertSpec) -> list[str]:
    names = [name for name in model.components if name not in RELEASED]
    said = f"{', '.join(names)} left out, which the official code takes from the public models"
    return [said] if spec.format == "smartedit" and names else []


def _unverified(model: PretrainedModel, spec: ConvertSpec) -> list[str]:
    names = [name for name in verification.WITHOUT_PYTORCH if name in model.components]
    said = f"{', '.join(names)}: not compared, PyTorch's libraries have no such networks"
    return [said] if spec.verify and names else []
