"""A SmartEdit before its stage 1: LLaVA-v1.1 before an editor's UNet, and all else anew.

LLaVA is a folder with what SmartEdit stands on beside it:

    config.json and weights               of LLaVA-v1.1, its delta applied to LLaMA's weights
    any folder of CLIP ViT-L/14           only its image encoder is used
    tokenizer.model, here or in a folder  of vicuna v1.1

New are the adapters, whose update is 0, the QFormer, the BIM, whose heads are 0, and the rows of
the added tokens: each is the mean of LLaMA's words but for those of <im_start> and <im_end>, which
LLaVA has.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.json_file import read_object, to_bytes
from mre_jax.models.adapted_llama import AdaptedLlama, AdaptedLlamaConfig
from mre_jax.models.bim import BIM, BIMConfig
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.projector import ProjectorConfig
from mre_jax.models.qformer import QFormer, QFormerConfig
from mre_jax.weights.files.folder import require_weights
from mre_jax.weights.files.source import Change, Joined, TensorSource, View, open_tensors
from mre_jax.weights.fresh import FreshTensors
from mre_jax.weights.llava import REMEDY, TABLES
from mre_jax.weights.llm_tokenizer import require_llm_tokenizer
from mre_jax.weights.model import Component, PretrainedModel
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.smartedit import ADDED_TOKENS, HEAD_WIDTH
from mre_jax.weights.smartedit import tokenizer_beside, vision_beside

_LLAVAS_TOKENS = 3
"""<im_patch>, <im_start> and <im_end>, its last rows."""
_PROJECTOR = "model.mm_projector."


def with_fresh_smartedit(
    model: PretrainedModel, llava: Path, origin: str, *, seed: int = 0
) -> PretrainedModel:
    """The editor as a SmartEdit that knows nothing yet of its instructions.

    Args:
        model: an InstructPix2Pix, whose UNet SmartEdit's trainings go on with.
        llava: a folder as above.
        origin: what errors call it.
        seed: of all that is new.

    Raises:
        ConfigError: when the model is a SmartEdit, or no whole editor.
        DataError: when a part is missing or damaged, or of another LLaVA.
    """
    if "llm" in model.components:
        raise ConfigError(f"{model.origin} is a SmartEdit; leave --fresh-smartedit out")
    if not {"unet", "text_encoder"} <= set(model.components):
        raise ConfigError(f"{model.origin} is no whole editor, of which a SmartEdit can be made")
    if not llava.is_dir():
        raise DataError(f"{origin} is no folder; {REMEDY}")
    taken, _ = require_weights(sorted(path.name for path in llava.iterdir()), origin)
    source = open_tensors(llava / taken.entry)
    vision, notes = vision_beside(llava)
    files = tokenizer_beside(llava)
    llm = _language_model(source, files, read_object(llava / "config.json"), origin, seed)
    width = llm.settings.llama.hidden_size
    projector = _projector(source, vision.settings.hidden_size, width, origin)
    fresh = _fresh(model, vision.settings.hidden_size, width, seed)
    parts = {part.name: part for part in (llm, vision, projector, *fresh)}
    note = f"llm and projector taken from {origin}; adapters, added tokens, qformer and bim are new"
    return dataclasses.replace(
        model,
        kind="smartedit",
        components={**model.components, **parts},
        files={**model.files, **files},
        notes=(*model.notes, *notes, note),
    )


def _language_model(
    source: TensorSource,
    files: Mapping[str, bytes],
    stated: Mapping[str, Any],
    origin: str,
    seed: int,
) -> Component:
    """LLaVA's, with adapters and the rows of all added tokens."""
    rows = _shape(source, TABLES[0], origin)[0]
    vocabulary = rows - _LLAVAS_TOKENS + ADDED_TOKENS
    words = require_llm_tokenizer(files, vocabulary, origin, added=ADDED_TOKENS)
    llama = LlamaConfig.from_dict({**stated, "model_type": "llama", "vocab_size": vocabulary})
    config = AdaptedLlamaConfig(llama)

    def build() -> AdaptedLlama:
        return AdaptedLlama(config, compute=Compute(), rngs=make_rngs(seed))

    adapters = FreshTensors(build, lambda name: ".lora_" in name, origin="new adapters")
    part = _component("llm", config.to_dict(), adapters)
    shapes = expected_tensors(part.network())
    names = [name for name in shapes if name not in adapters.tensors]
    if missing := [name for name in names if name not in source.tensors]:
        raise DataError(f"{origin} lacks {', '.join(sorted(missing)[:3])}; {REMEDY}")
    changes = {
        name: Change(shapes[name].shape, lambda table: _with_added(table, words)) for name in TABLES
    }
    stored = View(source, {name: name for name in names}, changes)
    return dataclasses.replace(part, source=Joined([stored, adapters]))


def _with_added(table: np.ndarray, words: int) -> np.ndarray:
    """LLaMA's rows, and those of <img>, <im_start>, <im_end>, <img_0> and those that follow."""
    mean = table[:words].mean(axis=0, dtype=np.float64).astype(table.dtype)
    start_and_end = table[words + 1 : words + _LLAVAS_TOKENS]
    images = np.tile(mean, (ADDED_TOKENS - _LLAVAS_TOKENS, 1))
    return np.concatenate([table[:words], mean[None], start_and_end, images])


def _projector(source: TensorSource, patch: int, width: int, origin: str) -> Component:
    names = {name: f"{_PROJECTOR}{name}" for name in ("weight", "bias")}
    for name in names.values():
        _shape(source, name, origin)
    return _component("projector", ProjectorConfig(patch, width).to_dict(), View(source, names))


def _fresh(
    model: PretrainedModel, patch: int, width: int, seed: int
) -> tuple[Component, Component]:
    """QFormer and BIM of SmartEdit's depth, in the widths of what stands around them."""
    text, unet = model.components["text_encoder"].settings, model.components["unet"].settings
    states = text.hidden_size
    qformer = QFormerConfig(
        query_length=text.max_position_embeddings,
        hidden_size=states,
        intermediate_size=4 * states,
        num_attention_heads=max(1, states // HEAD_WIDTH),
        encoder_width=width,
    )
    bim = BIMConfig(
        text_width=states,
        embedding_dim=patch,
        mlp_dim=2 * patch,
        out_channels=unet.block_out_channels[0],
    )
    return (
        _component(
            "qformer",
            qformer.to_dict(),
            FreshTensors(lambda: QFormer(qformer, compute=Compute(), rngs=make_rngs(seed))),
        ),
        _component(
            "bim",
            bim.to_dict(),
            FreshTensors(lambda: BIM(bim, compute=Compute(), rngs=make_rngs(seed))),
        ),
    )


def _component(name: str, config: Mapping[str, Any], source: TensorSource) -> Component:
    return Component(name, config, to_bytes(config), source)


def _shape(source: TensorSource, name: str, origin: str) -> tuple[int, ...]:
    if name not in source.tensors:
        raise DataError(f"{origin} lacks {name}; {REMEDY}")
    return source.tensors[name].shape
