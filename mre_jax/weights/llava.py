"""The rows of LLaVA's vocabulary under those of a SmartEdit.

SmartEdit's code trains whole tables, writes LLaVA's rows for LLaMA's words over them before every
use, and does so again when it loads a release. What the release stores there is therefore never
read by it, and differs from LLaVA's by the last step of training at most.
"""

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights.files.folder import require_weights
from mre_jax.weights.files.source import Change, TensorSource, View, open_tensors
from mre_jax.weights.files.weight_files import choose
from mre_jax.weights.llm_tokenizer import require_llm_tokenizer
from mre_jax.weights.model import PretrainedModel

TABLES = ("model.embed_tokens.weight", "lm_head.weight")
REMEDY = (
    "give LLaVA-v1.1 of the same size (7B or 13B), its delta applied to LLaMA's weights; "
    "LLaVA-1.5 and later are other models"
)
_NEAR = 0.1


def llava_files(names: Collection[str]) -> list[str]:
    """Those of a remote folder's files that the rows are read from."""
    taken, _ = choose(sorted(name for name in names if PurePosixPath(name).name == name))
    return sorted({"config.json", *(taken.files if taken else ())} & set(names))


def with_llava_rows(model: PretrainedModel, llava: Path, origin: str) -> PretrainedModel:
    """The model with LLaVA's rows for LLaMA's words in `TABLES`; those of added tokens stay.

    Args:
        model: a SmartEdit with its tokenizer.
        llava: a folder of LLaVA-v1.1.
        origin: what errors call that folder.

    Raises:
        DataError: when it is missing or damaged, of another size, or not what the model was trained
            from; the last shows when the rows are read.
        ConfigError: when the model is no SmartEdit.
    """
    if "llm" not in model.components:
        raise ConfigError(f"{model.origin} is no SmartEdit; leave --llava out")
    part = model.components["llm"]
    rows = require_llm_tokenizer(model.files, part.settings.llama.vocab_size, model.origin)
    if not llava.is_dir():
        raise DataError(f"{origin} is no folder; {REMEDY}")
    taken, _ = require_weights(sorted(path.name for path in llava.iterdir()), origin)
    source = open_tensors(llava / taken.entry)
    changes = {}
    for name in TABLES:
        info, wanted = source.tensors.get(name), part.source.tensors[name].shape
        if info is None or len(info.shape) != 2:
            raise DataError(f"{origin} lacks {name}; {REMEDY}")
        if info.shape[0] < rows or info.shape[1] != wanted[1]:
            raise DataError(
                f"{origin}: {name} is {list(info.shape)}, and {rows} rows of {wanted[1]} are "
                f"wanted; {REMEDY}"
            )
        changes[name] = Change(wanted, functools.partial(_overlaid, source, name, rows, origin))
    view = View(part.source, {name: name for name in part.source.tensors}, changes)
    note = f"the {rows} rows of LLaMA's words in {' and '.join(TABLES)} taken from {origin}"
    return dataclasses.replace(
        model,
        components={**model.components, "llm": dataclasses.replace(part, source=view)},
        notes=(*model.notes, note),
    )


def _overlaid(
    source: TensorSource, name: str, rows: int, origin: str, table: np.ndarray
) -> np.ndarray:
    found = source.read(name)[:rows].astype(table.dtype)
    change = np.abs(found - table[:rows]).mean(dtype=np.float64)
    # A delta, or another model, is as far away as it is large; a step of training is not.
    if not change <= _NEAR * np.abs(table[:rows]).mean(dtype=np.float64):
        raise DataError(f"{origin}: {name} is not what this model was trained from; {REMEDY}")
    return np.concatenate([found, table[rows:]])
