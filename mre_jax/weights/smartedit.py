"""The official release of SmartEdit, read from and brought back to its own names.

A release is a folder with the trainers' files, each a state dict that torch saved, beside the
public models that it stands on:

    LLM-STEP/adapter_model.bin, adapter_config.json   the language model and its adapters
    embeddings_qformer/*.bin                          lm_head, the projector, the QFormer
    modulate-STEP/adapter_model.bin                   the BIM
    unet-STEP/adapter_model.bin                       the UNet
    any folder of CLIP ViT-L/14                       only its image encoder is used
    tokenizer.model, here or in a folder              of vicuna v1.1

The VAE, CLIP's text encoder, its tokenizer and the scheduler are an InstructPix2Pix's, which lies
in the same folder or is named as base. A tensor of such a file is a view of one storage of all that
was trained, which is read piece by piece. What follows from the sizes is left out: the frequencies
of the rotary positions, and positions that count up.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_object, to_bytes
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.weights.files.source import Joined, TensorInfo, TensorSource, View, open_tensors
from mre_jax.weights.files.weight_files import choose
from mre_jax.weights.model import Component
from mre_jax.weights.names import infer
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.strict import compare

_FILES = {
    "LLM": "LLM-*/adapter_model.bin",
    "embeddings_qformer": "embeddings_qformer/*.bin",
    "modulate": "modulate-*/adapter_model.bin",
    "unet": "unet-*/adapter_model.bin",
}
_BASE = "model.base_model.model."
_HEAD = "lm_head.weight"  # in the file of the QFormer
_HEAD_WIDTH = 64  # of BERT, on which the QFormer is built; no shape shows it


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
    return path.is_dir() and sum(any(path.glob(pattern)) for pattern in _FILES.values()) > 1


def open_release(path: Path) -> Release:
    """Opens a release: names, shapes and configurations, not the weights.

    Raises:
        DataError: when a part is missing or damaged, is of another size than the others, or has
            tensors that are missing or not known, all of which are listed.
        ConfigError: for adapters of another kind, or at other layers.
    """
    sources = {name: open_tensors(place) for name, place in _places(path).items()}
    llm, joined = sources["LLM"], sources["embeddings_qformer"]
    adapters = _adapters(path, llm)
    configs = {
        "llm": {**_llama(llm).to_dict(), "lora": adapters.to_dict()},
        "projector": _projector(joined),
        "qformer": _qformer(joined),
        "bim": _bim(sources["modulate"]),
    }
    unet = _stripped(sources["unet"], "unet.")
    configs["unet"] = infer.config("unet", unet.tensors, unet.origin)
    _require_one_size(configs, sources)
    made = {
        name: Component(name, config, to_bytes(config), llm) for name, config in configs.items()
    }
    official = {name: _official_names(part) for name, part in made.items()}
    wanted = _by_file(official)
    notes = _check(wanted, made, sources)
    head = {name: name for name in official["llm"] if name == _HEAD}
    body = {ours: theirs for ours, theirs in official["llm"].items() if ours not in head}
    views = {
        "llm": Joined([View(llm, body), View(joined, head)]),
        **{name: View(joined, official[name]) for name in ("projector", "qformer")},
        "bim": View(sources["modulate"], official["bim"]),
        "unet": View(sources["unet"], official["unet"]),
    }
    components = {
        name: dataclasses.replace(part, source=views[name]) for name, part in made.items()
    }
    components["vision"], said = _vision(path)
    return Release(components, _tokenizer(path), (*notes, *said))


def official_tensors(components: Mapping[str, Component]) -> dict[str, TensorSource]:
    """A SmartEdit under the official names: the tensors of each kind of file.

    Args:
        components: unet, llm, projector, qformer and bim.

    Returns:
        By the file's kind, "LLM", "embeddings_qformer", "modulate" and "unet"; the weights bit for
        bit, and what follows from sizes made anew.
    """
    parts: dict[str, list[TensorSource]] = {kind: [] for kind in _FILES}
    for name in _HOMES:
        part = components[name]
        names: dict[str, dict[str, str]] = {}
        for ours, theirs in _official_names(part).items():
            names.setdefault(_file_of(name, theirs), {})[theirs] = ours
        for kind, held in names.items():
            parts[kind].append(View(part.source, held))
    llama = LlamaConfig.from_dict(components["llm"].config)
    parts["LLM"].append(_Arrays(_frequencies(llama)))
    positions = np.arange(512, dtype=np.int64)[None]
    parts["embeddings_qformer"].append(_Arrays({"sd_qformer.embeddings.position_ids": positions}))
    return {kind: Joined(sources) for kind, sources in parts.items()}


class _Arrays(TensorSource):
    """Tensors that are made, not read."""

    origin = "what follows from the sizes"

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = arrays
        self.tensors = {name: TensorInfo(x.shape, x.dtype) for name, x in arrays.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._arrays[name]


def _places(path: Path) -> dict[str, Path]:
    found = {name: sorted(path.glob(pattern)) for name, pattern in _FILES.items()}
    if missing := [_FILES[name] for name, files in found.items() if not files]:
        raise DataError(
            f"{path} lacks {', '.join(missing)}; fetch the whole release of SmartEdit-7B or -13B"
        )
    for files in found.values():
        if len(files) > 1:
            names = ", ".join(str(file.relative_to(path)) for file in files)
            raise DataError(f"{path} holds {names}; keep one of them")
    return {name: files[0] for name, files in found.items()}


def _adapters(path: Path, llm: TensorSource) -> LoRAConfig:
    beside = Path(llm.origin).parent / "adapter_config.json"
    place = beside if beside.is_file() else path / "adapter_config.json"
    if not place.is_file():
        raise DataError(f"{beside} is missing; fetch it with adapter_model.bin")
    try:
        config = LoRAConfig.from_dict(read_object(place))
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    ranks = {
        info.shape[0] for name, info in llm.tensors.items() if name.endswith(_LORA_A) and info.shape
    }
    if ranks - {config.r}:
        raise DataError(
            f"{llm.origin} holds adapters of rank {', '.join(map(str, sorted(ranks)))}, and "
            f"{place} says r {config.r}; fetch both from one release"
        )
    return config


def _llama(source: TensorSource) -> LlamaConfig:
    shape = _shapes(source)
    vocabulary, width = shape(_BASE + "embed_tokens.weight", 2)
    layer = _BASE + "layers.0."
    (half,) = shape(layer + "self_attn.rotary_emb.inv_freq", 1)
    heads, narrow = width // (2 * half), shape(layer + "self_attn.k_proj.weight", 2)[0]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shape(layer + "mlp.gate_proj.weight", 2)[0],
        num_hidden_layers=_count(source, re.escape(_BASE) + r"layers\.(\d+)\."),
        num_attention_heads=heads,
        num_key_value_heads=None if narrow == width else narrow // (2 * half),
    )


def _projector(source: TensorSource) -> dict[str, Any]:
    width, patch = _shapes(source)("mm_projector.weight", 2)
    return {
        "model_type": "smartedit_projector",
        "mm_hidden_size": patch,
        "hidden_size": width,
    }


def _qformer(source: TensorSource) -> dict[str, Any]:
    shape = _shapes(source)
    _, queries, width = shape("sd_query_tokens", 3)
    layer = "sd_qformer.encoder.layer."
    layers = _count(source, re.escape(layer) + r"(\d+)\.")
    attending = sorted(
        index
        for index in range(layers)
        if f"{layer}{index}.crossattention.self.key.weight" in source.tensors
    )
    return {
        "model_type": "smartedit_qformer",
        "query_length": queries,
        "hidden_size": width,
        "intermediate_size": shape(layer + "0.intermediate_query.dense.weight", 2)[0],
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "cross_attention_freq": attending[1] if len(attending) > 1 else layers,
        "encoder_width": shape(layer + "0.crossattention.self.key.weight", 2)[1],
    }


def _bim(source: TensorSource) -> dict[str, Any]:
    shape = _shapes(source)
    width, text = shape("modulate_head.weight", 2)
    first = "modulate_transformer.layers.0."
    inner = shape(first + "cross_attn_token_to_image.q_proj.weight", 2)[0]
    return {
        "model_type": "smartedit_bim",
        "text_width": text,
        "embedding_dim": width,
        "depth": _count(source, r"modulate_transformer\.layers\.(\d+)\."),
        "mlp_dim": shape(first + "mlp.lin1.weight", 2)[0],
        "attention_downsample_rate": max(1, width // max(1, inner)),
        "out_channels": shape("dimension_reduction_head_zeroconv.weight", 4)[0],
    }


def _require_one_size(
    configs: Mapping[str, Mapping[str, Any]], sources: Mapping[str, TensorSource]
) -> None:
    """Refuses parts of releases of two sizes."""
    llm, joined, bim = (sources[n].origin for n in ("LLM", "embeddings_qformer", "modulate"))
    width, text = configs["llm"]["hidden_size"], configs["qformer"]["hidden_size"]
    unet = configs["unet"]
    for origin, given, other, wanted in (
        (joined, configs["qformer"]["encoder_width"], llm, width),
        (joined, configs["projector"]["hidden_size"], llm, width),
        (bim, configs["bim"]["text_width"], joined, text),
        (bim, configs["bim"]["embedding_dim"], joined, configs["projector"]["mm_hidden_size"]),
        (sources["unet"].origin, unet["cross_attention_dim"], joined, text),
        (
            sources["unet"].origin,
            unet["block_out_channels"][0],
            bim,
            configs["bim"]["out_channels"],
        ),
    ):
        if given != wanted:
            raise DataError(
                f"{origin} is made for a width of {given}, and {other} for {wanted}; take all "
                "parts from one release, SmartEdit-7B's (4096) or SmartEdit-13B's (5120)"
            )


def _official_names(part: Component) -> dict[str, str]:
    """Our names of a part's tensors, and the official ones."""
    rule = _RULES[part.name]
    return {name: rule(name) for name in expected_tensors(part.network())}


def _llm_name(name: str) -> str:
    if name == _HEAD:
        return name
    return re.sub(r"\.(lora_[AB])\.", r".\1.default.", _BASE + name.removeprefix("model."))


def _qformer_name(name: str) -> str:
    return "sd_query_tokens" if name == "query_tokens" else f"sd_qformer.{name}"


def _file_of(component: str, official: str) -> str:
    if official == _HEAD:
        return "embeddings_qformer"
    return _HOMES[component]


def _by_file(official: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, tuple[str, str]]]:
    """By kind of file the official names, each with its component and our name."""
    files: dict[str, dict[str, tuple[str, str]]] = {kind: {} for kind in _FILES}
    for component, names in official.items():
        for ours, theirs in names.items():
            files[_file_of(component, theirs)][theirs] = (component, ours)
    return files


def _check(
    wanted: Mapping[str, Mapping[str, tuple[str, str]]],
    parts: Mapping[str, Component],
    sources: Mapping[str, TensorSource],
) -> tuple[str, ...]:
    """Compares each file with what it shall hold.

    Raises:
        DataError: listing all that does not fit, of every file.
    """
    shapes = {name: expected_tensors(part.network()) for name, part in parts.items()}
    faults, notes = [], []
    for kind, names in wanted.items():
        source = sources[kind]
        expected = {theirs: shapes[part][ours] for theirs, (part, ours) in names.items()}
        ignored = {name for name in source.tensors if _IGNORED[kind].fullmatch(name)}
        used = View(source, {name: name for name in source.tensors if name not in ignored})
        if fault := compare(expected, used):
            count = len(expected) + len({n for n in ignored if not n.startswith(_BASE + "embed")})
            faults.append(f"{source.origin} ({len(source.tensors)} tensors, not {count}): {fault}")
        if kind == "embeddings_qformer" and _STRAY in ignored:
            notes.append(f"{_STRAY} of {source.origin} left out; that of the LLM's file is taken")
    if faults:
        raise DataError(f"{'; '.join(faults)}. Fetch the whole release again")
    return tuple(notes)


def _vision(path: Path) -> tuple[Component, list[str]]:
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


def _tokenizer(path: Path) -> dict[str, bytes]:
    places = [path / "tokenizer.model", *sorted(path.glob("*/tokenizer.model"))]
    for place in places:
        if place.is_file():
            return {"llm_tokenizer/tokenizer.model": place.read_bytes()}
    raise DataError(f"{path} lacks tokenizer.model; put that of vicuna v1.1 or LLaMA into it")


def _stripped(source: TensorSource, prefix: str) -> View:
    return View(
        source,
        {name.removeprefix(prefix): name for name in source.tensors if name.startswith(prefix)},
    )


def _frequencies(config: LlamaConfig) -> dict[str, np.ndarray]:
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    made = (1 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    return {
        f"{_BASE}layers.{index}.self_attn.rotary_emb.inv_freq": made
        for index in range(config.num_hidden_layers)
    }


def _shapes(source: TensorSource) -> Callable[[str, int], tuple[int, ...]]:
    def shape(name: str, axes: int) -> tuple[int, ...]:
        info = source.tensors.get(name)
        if info is None or len(info.shape) != axes:
            raise DataError(f"{source.origin} lacks {name}; fetch it again")
        return info.shape

    return shape


def _count(source: TensorSource, pattern: str) -> int:
    found = {int(match[1]) for name in source.tensors if (match := re.match(pattern, name))}
    return max(found, default=-1) + 1


_LORA_A = ".lora_A.default.weight"
_STRAY = _BASE + "embed_tokens.weight"
_HOMES = {
    "llm": "LLM",
    "projector": "embeddings_qformer",
    "qformer": "embeddings_qformer",
    "bim": "modulate",
    "unet": "unet",
}
_RULES: dict[str, Callable[[str], str]] = {
    "llm": _llm_name,
    "projector": lambda name: f"mm_projector.{name}",
    "qformer": _qformer_name,
    "bim": lambda name: name,
    "unet": lambda name: f"unet.{name}",
}
# Follows from the sizes, or is elsewhere too.
_IGNORED = {
    "LLM": re.compile(r".*\.rotary_emb\.inv_freq"),
    "embeddings_qformer": re.compile(r"sd_qformer\.embeddings\.position_ids|" + re.escape(_STRAY)),
    "modulate": re.compile(r"(?!)"),
    "unet": re.compile(r"(?!)"),
}
