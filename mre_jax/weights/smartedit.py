"""The official release of SmartEdit, read.

A release is a folder with the trainers' files, each a state dict that torch saved, beside the
public models that it stands on:

    the four files of `names.smartedit`; adapter_config.json beside the first or here
    any folder of CLIP ViT-L/14                       only its image encoder is used
    tokenizer.model, here or in a folder              of vicuna v1.1

The VAE, CLIP's text encoder, its tokenizer and the scheduler are an InstructPix2Pix's, which lies
in the same folder or is named as base. A tensor of such a file is a view of one storage of all that
was trained, which is read piece by piece. What follows from the sizes is left out: the frequencies
of the rotary positions, and positions that count up.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_object, to_bytes
from mre_jax.models.lora import LoRAConfig
from mre_jax.weights.files.source import Joined, TensorSource, View, open_tensors
from mre_jax.weights.files.weight_files import choose
from mre_jax.weights.llm_tokenizer import LLM_TOKENIZER, require_llm_tokenizer
from mre_jax.weights.model import Component
from mre_jax.weights.names import infer
from mre_jax.weights.names import smartedit as official
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.strict import compare


@dataclasses.dataclass(frozen=True)
class Release:
    """The parts of a release that SmartEdit adds to an editor, opened.

    Attributes:
        components: unet, llm, vision, projector, qformer and bim, under our names.
        files: small files by path in a model folder: the language model's tokenizer.
        notes: what was left out, for the user.
    """

    components: Mapping[str, Component]
    files: Mapping[str, bytes]
    notes: tuple[str, ...]


def is_release(path: Path) -> bool:
    """Whether a folder holds files of the official release."""
    return path.is_dir() and sum(any(path.glob(p)) for p in official.FILES.values()) > 1


def open_release(path: Path) -> Release:
    """Opens a release: names, shapes and configurations, not the weights.

    Raises:
        DataError: when a part is missing or damaged, is of another size than the others, or has
            tensors that are missing or not known, all of which are listed.
        ConfigError: for adapters of another kind, or at other layers.
    """
    sources = {name: open_tensors(place) for name, place in _places(path).items()}
    configs = release_configs(sources, _adapters(path, sources["LLM"]))
    made = {
        name: Component(name, config, to_bytes(config), sources["LLM"])
        for name, config in configs.items()
    }
    require_one_size(made, {n: sources[kind].origin for n, kind in official.HOMES.items()})
    shapes = {name: expected_tensors(part.network()) for name, part in made.items()}
    wanted = official.by_file(shapes)
    notes = _check(wanted, shapes, sources)
    views: dict[str, list[TensorSource]] = {name: [] for name in made}
    for kind, names in wanted.items():
        for component in made:
            held = {ours: theirs for theirs, (part, ours) in names.items() if part == component}
            if held:
                views[component].append(View(sources[kind], held))
    components = {
        name: dataclasses.replace(part, source=Joined(views[name])) for name, part in made.items()
    }
    components["vision"], said = vision_beside(path)
    files = tokenizer_beside(path)
    vocabulary = configs["llm"]["vocab_size"]
    require_llm_tokenizer(files, vocabulary, str(path), added=official.ADDED_TOKENS)
    return Release(components, files, (*notes, *said))


def release_configs(
    sources: Mapping[str, TensorSource], adapters: LoRAConfig
) -> dict[str, dict[str, Any]]:
    """The config.json of each part that a release holds, from the shapes in its files.

    Args:
        sources: by kind of file.

    Raises:
        DataError: when a tensor is missing whose shape is needed.
    """
    joined, prefix = sources["embeddings_qformer"], "unet."
    names = [name for name in sources["unet"].tensors if name.startswith(prefix)]
    unet = View(sources["unet"], {name.removeprefix(prefix): name for name in names})
    llama = official.llama_config(sources["LLM"])
    return {
        "llm": {**llama.to_dict(), "lora": adapters.to_dict()},
        "projector": official.projector_config(joined),
        "qformer": official.qformer_config(joined),
        "bim": official.bim_config(sources["modulate"]),
        "unet": infer.config("unet", unet.tensors, unet.origin),
    }


def require_one_size(components: Mapping[str, Component], homes: Mapping[str, str]) -> None:
    """Refuses parts of SmartEdits of two sizes, as a 13B's QFormer beside a 7B's language model.

    Args:
        components: llm, projector, qformer, bim and unet.
        homes: where each is, for the error.

    Raises:
        DataError: naming both.
    """
    settings = {name: components[name].settings for name in official.HOMES}
    settings["llm"] = settings["llm"].llama
    for part, key, other, wanted in (
        ("qformer", "encoder_width", "llm", "hidden_size"),
        ("projector", "hidden_size", "llm", "hidden_size"),
        ("bim", "text_width", "qformer", "hidden_size"),
        ("bim", "embedding_dim", "projector", "mm_hidden_size"),
        ("unet", "cross_attention_dim", "qformer", "hidden_size"),
        ("unet", "block_out_channels", "bim", "out_channels"),
    ):
        widths = [getattr(settings[part], key), getattr(settings[other], wanted)]
        given, needed = (width[0] if isinstance(width, tuple) else width for width in widths)
        if given != needed:
            raise DataError(
                f"{homes[part]} is made for a width of {given}, and {homes[other]} for {needed}; "
                "take all parts from one release, SmartEdit-7B's (4096) or SmartEdit-13B's (5120)"
            )


def _places(path: Path) -> dict[str, Path]:
    found = {name: sorted(path.glob(pattern)) for name, pattern in official.FILES.items()}
    if missing := [official.FILES[name] for name, files in found.items() if not files]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; fetch the whole release of SmartEdit-7B or -13B"
        )
    for files in found.values():
        if len(files) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in files)
            raise DataError(f"{path} holds {names}; keep one of them")
    return {name: files[0] for name, files in found.items()}


def _adapters(path: Path, llm: TensorSource) -> LoRAConfig:
    beside = Path(llm.origin).parent / official.ADAPTERS
    place = beside if beside.is_file() else path / official.ADAPTERS
    if not place.is_file():
        raise DataError(f"{beside} is missing; fetch it with adapter_model.bin")
    try:
        config = LoRAConfig.from_dict(read_object(place))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    ranks = {
        info.shape[0]
        for name, info in llm.tensors.items()
        if name.endswith(official.LORA_A) and info.shape
    }
    if ranks - {config.r}:
        raise DataError(
            f"{llm.origin} holds adapters of rank {', '.join(map(str, sorted(ranks)))}, and "
            f"{place} says r {config.r}; fetch both from one release"
        )
    return config


def _check(
    wanted: Mapping[str, Mapping[str, tuple[str, str]]],
    shapes: Mapping[str, Mapping[str, Any]],
    sources: Mapping[str, TensorSource],
) -> tuple[str, ...]:
    """Compares each file with what it shall hold.

    Raises:
        DataError: listing all that does not fit, of every file.
    """
    faults, notes = [], []
    for kind, names in wanted.items():
        source = sources[kind]
        expected = {theirs: shapes[part][ours] for theirs, (part, ours) in names.items()}
        ignored = {name for name in source.tensors if official.is_ignored(kind, name)}
        used = View(source, {name: name for name in source.tensors if name not in ignored})
        if fault := compare(expected, used):
            count = len(expected) + len(ignored - {official.STRAY})
            faults.append(f"{source.origin} ({len(source.tensors)} tensors, not {count}): {fault}")
        if official.STRAY in ignored:
            notes.append(
                f"{official.STRAY} of {source.origin} left out; that of the LLM's file is taken"
            )
    if faults:
        raise DataError(f"{'; '.join(faults)}. Fetch the whole release again")
    return tuple(notes)


def vision_beside(path: Path) -> tuple[Component, list[str]]:
    """The image encoder of CLIP's folder in a folder, and notes on what was left out.

    Raises:
        DataError: when there is none, or it is damaged.
    """
    for place in sorted(path.glob("*/config.json")):
        config = read_object(place)
        kind = config.get("model_type")
        if kind not in ("clip", "clip_vision_model"):
            continue
        vision = config.get("vision_config") or {} if kind == "clip" else config
        vision = {**vision, "model_type": "clip_vision_model"}
        taken, _ = choose(sorted(file.name for file in place.parent.iterdir()))
        if taken is None:
            raise DataError(f"{place.parent} holds no weights; fetch CLIP ViT-L/14 again")
        stored = open_tensors(place.parent / taken.entry)
        part = Component("vision", vision, to_bytes(vision), stored)
        names = {}
        for name in expected_tensors(part.network()):
            plain = name.removeprefix("vision_model.")
            names[name] = name if name in stored.tensors else plain
        if missing := [name for name, other in names.items() if other not in stored.tensors]:
            raise DataError(f"{stored.origin} lacks {', '.join(sorted(missing)[:3])}")
        left = len(stored.tensors) - len(names)
        note = [f"vision: {left} tensors that are not used left out"] if left else []
        return dataclasses.replace(part, source=View(stored, names)), note
    raise DataError(
        f"{path} lacks CLIP's image encoder; put the folder of openai/clip-vit-large-patch14 there"
    )


def tokenizer_beside(path: Path) -> dict[str, bytes]:
    """The language model's tokenizer in a folder, by its place in a model folder.

    Raises:
        DataError: when there is none.
    """
    places = [path / "tokenizer.model", *sorted(path.glob("*/tokenizer.model"))]
    for place in places:
        if place.is_file():
            return {LLM_TOKENIZER: place.read_bytes()}
    raise DataError(f"{path} lacks tokenizer.model; put that of vicuna v1.1 or LLaMA into it")
