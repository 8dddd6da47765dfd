"""A SmartEdit written in the files of its official release, for the official code to read.

They hold the language model, its adapters, the projector, the QFormer, the BIM and the UNet.
Everything else the official code takes from the public models.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from mre_jax.errors import ConfigError
from mre_jax.io.json_file import to_bytes
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig
from mre_jax.weights.files.source import Joined, TensorInfo, TensorSource, View, is_floating
from mre_jax.weights.files.torch_writer import write_torch
from mre_jax.weights.llm_tokenizer import LLM_TOKENIZER
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.names import smartedit as official
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.strict import require_fit, stream
from mre_jax.weights.smartedit import release_configs

NAMES = {
    "LLM": "LLM-15000/adapter_model.bin",
    "embeddings_qformer": "embeddings_qformer/checkpoint-15000_embeddings_qformer.bin",
    "modulate": "modulate-15000/adapter_model.bin",
    "unet": "unet-15000/adapter_model.bin",
}
"""By kind of file what the published one is called."""

Arrays = Iterator[tuple[str, np.ndarray]]


def write_release(
    model: PretrainedModel, folder: Path, counted: Callable[[Arrays], Arrays]
) -> None:
    """Writes the four files, adapter_config.json and tokenizer.model into an empty folder.

    Args:
        model: a SmartEdit.
        counted: what the tensors go through on their way, as a bar of progress.

    Raises:
        DataError: when the weights do not fit their configuration, or the disk is full.
        ConfigError: when it is no SmartEdit, or one that these files cannot describe.
    """
    parts = _parts(model)
    sources = official_tensors(parts)
    _require_described(parts, sources)
    for kind, source in sources.items():
        path = folder / NAMES[kind]
        path.parent.mkdir()
        write_torch(path, source.tensors, counted(_arrays(source)))
    adapters = to_bytes(parts["llm"].config["lora"])
    # The official script looks for it here, and peft beside the weights.
    for place in (folder, (folder / NAMES["LLM"]).parent):
        (place / official.ADAPTERS).write_bytes(adapters)
    if LLM_TOKENIZER in model.files:
        (folder / "tokenizer.model").write_bytes(model.files[LLM_TOKENIZER])


def official_tensors(components: Mapping[str, Component]) -> dict[str, TensorSource]:
    """A SmartEdit under the official names: the tensors of each kind of file.

    Args:
        components: unet, llm, projector, qformer and bim.

    Returns:
        By the file's kind, "LLM", "embeddings_qformer", "modulate" and "unet"; the weights bit for
        bit, and what follows from sizes made anew, the frequencies in float32.

    Raises:
        DataError: when the weights of a component do not fit its configuration.
    """
    shapes = {name: expected_tensors(components[name].network()) for name in official.HOMES}
    for name, expected in shapes.items():
        require_fit(expected, components[name].source)
    files: dict[str, list[TensorSource]] = {}
    for kind, held in official.by_file(shapes).items():
        names: dict[str, dict[str, str]] = {}
        for theirs, (component, ours) in held.items():
            names.setdefault(component, {})[theirs] = ours
        files[kind] = [View(components[part].source, taken) for part, taken in names.items()]
    llama = LlamaConfig.from_dict(components["llm"].config)
    files["LLM"].append(_Made(_frequencies(llama)))
    positions = np.arange(512, dtype=np.int64)[None]
    files["embeddings_qformer"].append(_Made({"sd_qformer.embeddings.position_ids": positions}))
    return {kind: Joined(sources) for kind, sources in files.items()}


class _Made(TensorSource):
    """Tensors that are made, not read."""

    origin = "what follows from the sizes"

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = arrays
        self.tensors = {name: TensorInfo(x.shape, x.dtype) for name, x in arrays.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._arrays[name]


def _parts(model: PretrainedModel) -> dict[str, Component]:
    """What the files hold of a model."""
    if missing := [name for name in official.HOMES if name not in model.components]:
        raise ConfigError(
            f"{model.origin} is no SmartEdit: it has no {', '.join(missing)}; "
            "write it with --format diffusers"
        )
    parts = {name: model.components[name] for name in official.HOMES}
    if parts["unet"].reward is not None:
        raise ConfigError(
            f"{model.origin} has a reward condition, which the official release of SmartEdit has "
            "no place for; write it with --format diffusers"
        )
    if not parts["llm"].config.get("lora"):
        raise ConfigError(
            f"{model.origin}: its language model has no adapters, which the official code asks "
            "for; write it with --format diffusers"
        )
    return parts


def _require_described(parts: Mapping[str, Component], sources: Mapping[str, TensorSource]) -> None:
    """Refuses what shapes do not show, and the official release has otherwise."""
    adapters = LoRAConfig.from_dict(parts["llm"].config["lora"])
    for name, config in release_configs(sources, adapters).items():
        seen = dataclasses.replace(parts[name], config=config).settings.to_dict()
        for key, value in parts[name].settings.to_dict().items():
            if key not in _IMMATERIAL and value != seen.get(key):
                raise ConfigError(
                    f"{name}: {key} is {value}, and whoever reads a release takes it to be "
                    f"{seen.get(key)}, as the official one's; write it with --format diffusers"
                )


def _arrays(source: TensorSource) -> Arrays:
    floating = {n: info for n, info in source.tensors.items() if is_floating(info.dtype)}
    yield from stream(floating, View(source, {name: name for name in floating}), floating)
    for name in source.tensors:
        if name not in floating:
            yield name, source.read(name)


_IMMATERIAL = ("sample_size", "max_position_embeddings")


def _frequencies(config: LlamaConfig) -> dict[str, np.ndarray]:
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    made = (1 / np.float32(config.rope_theta) ** exponents).astype(np.float32)
    return {
        f"{official.BASE}layers.{index}.self_attn.rotary_emb.inv_freq": made
        for index in range(config.num_hidden_layers)
    }
