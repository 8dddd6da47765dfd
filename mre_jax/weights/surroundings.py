"""The small files around the networks of a model, and what stands in for those that are missing."""

import json
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import DataError
from mre_jax.io.json_file import to_bytes

SCHEDULER = "scheduler/scheduler_config.json"

_TOKENIZER = "tokenizer/tokenizer_config.json"
_OLD_SCHEDULER = "scheduler/config.json"

# InstructPix2Pix's, for models that come without one.
_DEFAULT_SCHEDULER = b"""{
  "_class_name": "EulerAncestralDiscreteScheduler",
  "beta_end": 0.012,
  "beta_schedule": "scaled_linear",
  "beta_start": 0.00085,
  "num_train_timesteps": 1000,
  "prediction_type": "epsilon",
  "steps_offset": 1,
  "trained_betas": null
}
"""


def with_scheduler(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], str | None]:
    """The files of a model with a scheduler's configuration, and a note if it had none.

    Args:
        files: by path in the model folder.
    """
    if SCHEDULER in files:
        return dict(files), None
    if _OLD_SCHEDULER in files:
        files = {name: data for name, data in files.items() if name != _OLD_SCHEDULER} | {
            SCHEDULER: files[_OLD_SCHEDULER]
        }
        return files, f"{_OLD_SCHEDULER} read as {SCHEDULER}"
    return {**files, SCHEDULER: _DEFAULT_SCHEDULER}, "no scheduler: InstructPix2Pix's is used"


def scheduler_config(files: Mapping[str, bytes], origin: str) -> dict[str, Any]:
    """What the scheduler of a model says.

    Args:
        files: by path in the model folder.
        origin: what errors call the model.

    Raises:
        DataError: if there is none, or it is no JSON object.
    """
    try:
        return {**json.loads(files[SCHEDULER])}
    except KeyError:
        raise DataError(f"{origin} has no {SCHEDULER}; add that of its model") from None
    except (ValueError, TypeError):
        raise DataError(f"{origin}: {SCHEDULER} is no JSON object; mend it") from None


def with_window(files: Mapping[str, bytes], positions: int) -> tuple[dict[str, bytes], str | None]:
    """The files of a model whose tokenizer says how long a text may be, and a note if it did not.

    Without it transformers neither pads nor truncates (it takes the limit to be 1e30).

    Args:
        files: by path in the model folder.
        positions: tokens that the text encoder takes.

    Raises:
        DataError: if what the tokenizer says is no JSON object, or its length no number.
    """
    if not any(name.startswith("tokenizer/") for name in files):
        return dict(files), None
    try:
        stated = {**json.loads(files.get(_TOKENIZER, b"{}"))}
        length = int(stated.get("model_max_length") or 0)
    except (ValueError, TypeError):
        raise DataError(
            f"{_TOKENIZER} is no JSON object with a number of tokens; mend it"
        ) from None
    if 0 < length < _ENDLESS:
        return dict(files), None
    stated = {"tokenizer_class": "CLIPTokenizer", **stated, "model_max_length": positions}
    note = f"the tokenizer says no length: the text encoder's {positions} tokens are taken"
    return {**files, _TOKENIZER: to_bytes(stated)}, note


_ENDLESS = 1e9
