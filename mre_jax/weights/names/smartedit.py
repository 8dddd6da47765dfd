"""The files of SmartEdit's official release: what they are called, and the tensors in them.

    LLM-STEP/adapter_model.bin            the language model but for lm_head, and its adapters
    embeddings_qformer/*.bin              lm_head, the projector and the QFormer
    modulate-STEP/adapter_model.bin       the BIM
    unet-STEP/adapter_model.bin           the UNet

Of the configurations that our networks need there is only that of the adapters; shapes show the
rest, but for the heads of the QFormer, which are BERT's.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from mre_jax.errors import DataError
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.weights.files.source import TensorSource

FILES = {
    "LLM": "LLM-*/adapter_model.bin",
    "embeddings_qformer": "embeddings_qformer/*.bin",
    "modulate": "modulate-*/adapter_model.bin",
    "unet": "unet-*/adapter_model.bin",
}
"""By kind of file where it lies."""

"""By component the kind of file that holds it, but for lm_head."""
ADAPTERS = "adapter_config.json"
ADDED_TOKENS = 35
"""Rows of the vocabulary that SmartEdit adds to those of LLaMA's tokenizer."""
BASE = "model.base_model.model."
STRAY = BASE + "embed_tokens.weight"
"""May be in the file of the QFormer too."""
LORA_A = ".lora_A.default.weight"

HEAD_WIDTH = 64
"""Of BERT, on which the QFormer is built."""

_HEAD = "lm_head.weight"


def releases(names: Iterable[str]) -> set[str]:
    """Kinds of those files of a folder that are of the official release.

    Args:
        names: paths in the folder, with "/" between their parts.

    Example:
        >>> releases(["unet-15000/adapter_model.bin", "tokenizer.model"])
        {'unet'}
    """
    parts = [PurePosixPath(name) for name in names if name.count("/") == 1]
    return {kind for kind, where in FILES.items() if any(path.match(where) for path in parts)}


def official_name(component: str, name: str) -> str:
    """The official name of a component's tensor."""
    return _RULES[component](name)


def by_file(names: Mapping[str, Iterable[str]]) -> dict[str, dict[str, tuple[str, str]]]:
    """What each file holds: by its kind the official names, each with its component and our name.

    Args:
        names: of the tensors of each component: llm, projector, qformer, bim and unet.

    Example:
        >>> by_file({"llm": ["lm_head.weight"], "bim": ["modulate_head.bias"]})["modulate"]
        {'modulate_head.bias': ('bim', 'modulate_head.bias')}
    """
    files: dict[str, dict[str, tuple[str, str]]] = {kind: {} for kind in FILES}
    for component, held in names.items():
        for ours in held:
            theirs = official_name(component, ours)
            kind = "embeddings_qformer" if theirs == _HEAD else HOMES[component]
            files[kind][theirs] = (component, ours)
    return files


def is_ignored(kind: str, name: str) -> bool:
    """Whether a tensor of a file follows from the sizes, or is elsewhere too."""
    return kind in _IGNORED and _IGNORED[kind].fullmatch(name) is not None


def llama_config(source: TensorSource) -> LlamaConfig:
    """Sizes of the language model, from the file LLM."""
    shape = _shapes(source)
    vocabulary, width = shape(BASE + "embed_tokens.weight", 2)
    layer = BASE + "layers.0."
    (half,) = shape(layer + "self_attn.rotary_emb.inv_freq", 1)
    heads, narrow = width // (2 * half), shape(layer + "self_attn.k_proj.weight", 2)[0]
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=shape(layer + "mlp.gate_proj.weight", 2)[0],
        num_hidden_layers=_count(source, re.escape(BASE) + r"layers\.(\d+)\."),
        num_attention_heads=heads,
        num_key_value_heads=None if narrow == width else narrow // (2 * half),
    )


def projector_config(source: TensorSource) -> dict[str, Any]:
    """A config.json for the projector, from the file embeddings_qformer."""
    width, patch = _shapes(source)("mm_projector.weight", 2)
    return {
        "model_type": "smartedit_projector",
        "mm_hidden_size": patch,
        "hidden_size": width,
    }


def qformer_config(source: TensorSource) -> dict[str, Any]:
    """A config.json for the QFormer, from the file embeddings_qformer."""
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
        "num_attention_heads": max(1, width // HEAD_WIDTH),
        "cross_attention_freq": attending[1] if len(attending) > 1 else layers,
        "encoder_width": shape(layer + "0.crossattention.self.key.weight", 2)[1],
    }


def bim_config(source: TensorSource) -> dict[str, Any]:
    """A config.json for the BIM, from the file modulate."""
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


def _llm_name(name: str) -> str:
    if name == _HEAD:
        return name
    return re.sub(r"\.(lora_[AB])\.", r".\1.default.", BASE + name.removeprefix("model."))


def _qformer_name(name: str) -> str:
    return "sd_query_tokens" if name == "query_tokens" else f"sd_qformer.{name}"


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


HOMES = {
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
_IGNORED = {
    "LLM": re.compile(r".*\.rotary_emb\.inv_freq"),
    "embeddings_qformer": re.compile(r"sd_qformer\.embeddings\.position_ids|" + re.escape(STRAY)),
}
