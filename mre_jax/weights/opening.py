"""Opening a model of any supported kind, wherever it is: in a folder or a file, with its base.

Opening reads names, shapes and configurations, not the weights.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import to_bytes
from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.weights.files.folder import COMPONENTS, SMARTEDIT, ModelFolder
from mre_jax.weights.files.orbax_folder import OrbaxComponent
from mre_jax.weights.files.source import TensorSource, open_tensors
from mre_jax.weights.locate import local_path, needed_files
from mre_jax.weights.lora import Loras, OpenedLora, opened_loras, parse_loras
from mre_jax.weights.lora_file import is_lora, refuse_unmerged
from mre_jax.weights.model import (
    REWARD_CLASS,
    Component,
    PretrainedModel,
    changed,
    expanded,
    with_loras,
)
from mre_jax.weights.names import compvis, infer
from mre_jax.weights.names.aliases import current
from mre_jax.weights.names.expand import input_channels
from mre_jax.weights.names.foreign import what_is
from mre_jax.weights.names.wrapped import unprefixed
from mre_jax.weights.smartedit import is_release, open_release, require_one_size
from mre_jax.weights.surroundings import with_scheduler, with_window

_WORDS = {"unet": "the UNet", "vae": "the VAE", "text_encoder": "the text encoder"}
_SHARED_FOLDERS = ("tokenizer", "feature_extractor")
_DEFAULT_CHANNELS = 4
_PROJECTING = "CLIPTextModelWithProjection"


@contextlib.contextmanager
def model_at(
    model: epath.PathLike,
    *,
    base: epath.PathLike | None = None,
    lora: Loras = (),
    **options: Any,
) -> Iterator[PretrainedModel]:
    """`open_model` of a model wherever it is; its weights can be read inside the `with`.

    Args:
        model: a local path, `org/name@REVISION` or `gs://...`.
        base: a model for what `model` lacks, in any of these places too.
        lora: LoRA files to merge, in any of these places: "FILE", "FILE:SCALE", (FILE, SCALE) or
            several.
        options: arguments of `open_model`.

    Raises:
        DataError: when something is missing or damaged, or of another kind.
        ConfigError: for a scale of a LoRA that is not a finite number.

    Example:
        >>> with model_at(TOY) as model:
        ...     weight = model.components["unet"].source.read("conv_in.weight")
        >>> weight.shape, list(model.components)
        ((48, 48, 3, 3), ['unet', 'vae', 'text_encoder'])
    """
    with contextlib.ExitStack() as places:
        loras = places.enter_context(opened_loras(parse_loras(lora)))
        # SmartEdit's parts are asked for by no name where they may be missing.
        chosen = None if options.get("smartedit") else options.get("components")
        needed = functools.partial(needed_files, weights=options.get("weights"), components=chosen)
        path = places.enter_context(local_path(model, needed))
        below = None if base is None else places.enter_context(local_path(base))
        opened = open_model(path, base=below, loras=loras, **options)
        notes = tuple(note.replace(str(below), str(base)) for note in opened.notes)
        yield dataclasses.replace(opened, notes=notes)


def open_model(
    path: Path,
    *,
    weights: str | None = None,
    in_channels: int | None = None,
    unet_config: Mapping[str, Any] | None = None,
    base: Path | None = None,
    components: Collection[str] | None = None,
    smartedit: bool = False,
    lone: bool = True,
    loras: Sequence[OpenedLora] = (),
) -> PretrainedModel:
    """Recognises and opens a model folder, a component's folder, or a file in the original layout.

    Args:
        path: local.
        weights: "ema" or "raw" where there are both; None prefers the moving average.
        in_channels: what the UNet shall take; missing ones get zero weights. `EDITOR` is twice the
            channels of its latents, None leaves it.
        unet_config: entries that replace those of the UNet's configuration.
        base: a model for what `path` lacks, local.
        components: networks to open; None is the lone one of a component's folder, else all.
        smartedit: open SmartEdit's own beside `components`, if the model has them.
        lone: whether such a folder will do; else it is an error that names what it lacks.
        loras: to merge into these, before the UNet gets more input channels.

    Raises:
        DataError: when something is missing or damaged, or of another kind.
        ConfigError: for other `weights`.
    """
    if weights not in (None, "ema", "raw"):
        raise ConfigError(f"weights {weights!r} is neither 'ema' nor 'raw'; None takes the average")
    smartedit |= components is None
    asked = COMPONENTS if components is None else components
    names = (*asked, *(SMARTEDIT if smartedit else ()))
    of_base = (*COMPONENTS, *(name for name in names if name in SMARTEDIT))
    below = None if base is None else _open(base, None, of_base)
    opened = _open(path, weights, names, below)
    if below is not None:
        opened = _completed(opened, below)
    if components is None and opened.lone and lone:
        components = tuple(opened.components)
    elif smartedit and any(name in SMARTEDIT for name in opened.components):
        # Of its parts there are all or none.
        components = (*asked, *SMARTEDIT)
    else:
        components = asked
    for name in components:
        if name not in opened.components:
            what = _WORDS[name] if path.is_file() else f"{name}/"
            raise DataError(
                f"{path} lacks {what}; take a complete model, or name one that has it with --base"
            )
    chosen = {name: opened.components[name] for name in components}
    if {*SMARTEDIT, "unet"} <= set(chosen):
        require_one_size(chosen, {name: part.source.origin for name, part in chosen.items()})
    if "unet" in chosen:
        chosen["unet"] = changed(chosen["unet"], **(unet_config or {}))
    opened = dataclasses.replace(opened, components=chosen)
    opened = with_loras(opened if opened.lone else _surrounded(opened), loras)
    return opened if in_channels is None else expanded(opened, in_channels)


def _surrounded(model: PretrainedModel) -> PretrainedModel:
    """The model with the small files that it cannot do without."""
    files, note = with_scheduler(model.files)
    # Who asks for one network alone does not hear of the scheduler.
    notes = [note] if note and set(model.components) >= set(COMPONENTS) else []
    if "text_encoder" in model.components:
        config = CLIPTextConfig.from_dict(model.components["text_encoder"].config)
        files, note = with_window(files, config.max_position_embeddings)
        notes += [note] if note else []
    return dataclasses.replace(model, files=files, notes=(*model.notes, *notes))


def _open(
    path: Path, weights: str | None, names: Collection[str], base: PretrainedModel | None = None
) -> PretrainedModel:
    if is_release(path):
        return _open_smartedit(path, names)
    if path.is_file():
        return _open_file(path, weights, {} if base is None else base.components)
    return _open_folder(path, weights, names)


def _open_smartedit(path: Path, names: Collection[str]) -> PretrainedModel:
    """The official release, with what lies beside it in diffusers' folders."""
    release = open_release(path)
    components, files = dict(release.components), dict(release.files)
    notes = [*release.notes]
    if any((path / name / "config.json").is_file() for name in ("vae", "text_encoder")):
        beside = _open_folder(path, None, ("vae", "text_encoder"))
        components, files = {**beside.components, **components}, {**beside.files, **files}
        notes += beside.notes
    return PretrainedModel(
        origin=str(path),
        kind="smartedit",
        weights="only",
        components={name: part for name, part in components.items() if name in names},
        files=files,
        notes=tuple(notes),
    )


def _open_folder(path: Path, weights: str | None, names: Collection[str]) -> PretrainedModel:
    folder = ModelFolder.open(path, weights)
    components, notes = {}, [*folder.unused()]
    for name in names:
        if name not in folder.components:
            continue
        config, text = folder.config(name)
        tensors = folder.tensors(name)
        refuse_unmerged(tensors)
        stored, about = unprefixed(tensors, name) if name in COMPONENTS else (tensors, [])
        components[name], changes = _component(name, config, text, stored)
        notes += [*folder.choice(name), *about, *changes]
    unet = components.get("unet")
    kind = "diffusers"
    if unet is not None and unet.reward is not None and unet.reward.form == "released":
        kind = "released"
    if any(name in SMARTEDIT for name in components):
        kind = "smartedit"
    if any(isinstance(folder.tensors(name), OrbaxComponent) for name in components):
        kind = "orbax"
    return PretrainedModel(
        origin=str(path),
        kind=kind,
        weights="raw" if weights == "raw" else folder.unet_weights,
        components=components,
        files=folder.files(),
        safety_checker=folder.safety_checker,
        lone=folder.lone,
        notes=tuple(notes),
    )


def _open_file(path: Path, weights: str | None, base: Mapping[str, Component]) -> PretrainedModel:
    """The networks that a file holds; what shapes do not show is as in `base`."""
    source = open_tensors(path)
    refuse_unmerged(source)
    if is_lora(source):
        raise DataError(f"{path} is a LoRA: give it with --lora, and its base model here")
    if kind := what_is(source.tensors):
        raise DataError(f"{path} is {kind}; give an editor of the Stable Diffusion 1.x family")
    parts = compvis.split(source, weights)
    components, notes = {}, [*parts.notes]
    for name, stored in parts.components.items():
        config = infer.config(
            name,
            stored.tensors,
            str(path),
            like=base[name].config if name in base else None,
            scaling_factor=parts.scaling_factor,
        )
        components[name], changes = _component(name, config, to_bytes(config), stored)
        notes += changes
    return PretrainedModel(
        origin=str(path),
        kind="compvis" if parts.original else "diffusers",
        weights=parts.weights,
        components=components,
        files={},
        notes=tuple(notes),
    )


def _component(
    name: str, config: Mapping[str, Any], text: bytes, stored: TensorSource
) -> tuple[Component, list[str]]:
    """A component under our names, with a configuration that says what its tensors are; notes."""
    made = Component(name, config, text, current(name, stored))
    if name == "text_encoder" and config.get("architectures") == [_PROJECTING]:
        return changed(made, architectures=["CLIPTextModel"]), []
    if name != "unet":
        return made, []
    if made.reward is None and (found := infer.reward_config(stored.tensors)) is not None:
        made = changed(made, _class_name=REWARD_CLASS, reward=found.to_dict())
    takes = input_channels(stored)
    if takes is None or takes == config.get("in_channels", _DEFAULT_CHANNELS):
        return made, []
    said = f"unet: takes {takes} input channels, though its config.json says otherwise"
    return changed(made, in_channels=takes), [said]


def _completed(model: PretrainedModel, base: PretrainedModel) -> PretrainedModel:
    """`model` with the networks, the tokenizer and the feature extractor that it lacks.

    The safety checker of `base` stays away: it belongs to another model. So does the scheduler,
    where the UNet is of the original layout, which has one schedule.
    """
    shared = _SHARED_FOLDERS if model.kind == "compvis" else (*_SHARED_FOLDERS, "scheduler")
    # What reads instructions is of one model: SmartEdit's parts come with its text encoder.
    left = SMARTEDIT if "text_encoder" in model.components else ()
    networks = [name for name in base.components if name not in (*model.components, *left)]
    if "llm" in networks:
        shared = (*shared, "llm_tokenizer")
    own = {_top(name) for name in model.files}
    files = {
        name: data
        for name, data in base.files.items()
        if _top(name) in shared and _top(name) not in own
    }
    taken = [*networks, *sorted({_top(name) for name in files})]
    note = [f"{', '.join(taken)} taken from {base.origin}"] if taken else []
    return dataclasses.replace(
        model,
        kind="smartedit" if "llm" in networks and model.kind == "diffusers" else model.kind,
        components={**{name: base.components[name] for name in networks}, **model.components},
        files={**files, **model.files},
        lone=False,
        notes=(*model.notes, *note),
    )


def _top(name: str) -> str:
    return name.split("/")[0]
