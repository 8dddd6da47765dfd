"""What a pretrained folder says of itself: recipe.json."""

import dataclasses
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Float
from numpy import ndarray

from mre_jax.io.files import write_atomically
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.reward.scores import PERSPECTIVES

RECIPE = "recipe.json"


def mean_scores(scores: Float[ndarray, "7 3"]) -> dict[str, float]:
    """The means over the types, by perspective."""
    return dict(zip(PERSPECTIVES, scores.mean(0).round(2).tolist(), strict=True))


def all_scores(scores: Float[ndarray, "7 3"]) -> dict[str, dict[str, float]]:
    """The means, as "mean", and the scores by type."""
    by_type = {
        kind: dict(zip(PERSPECTIVES, row.round(2).tolist(), strict=True))
        for kind, row in zip(EDIT_TYPES, scores, strict=True)
    }
    return {"mean": mean_scores(scores), **by_type}


def write_record(
    folder: Path,
    command: str,
    recipe: Any,
    seconds: float,
    scores: Float[ndarray, "7 3"],
    **found: Any,
) -> None:
    """Writes it.

    Args:
        command: that makes the folder.
        recipe: a dataclass of numbers.
        seconds: since the last start.
        scores: of the folder as it was written, by `try_editor`.
        found: what else was measured on the way, JSON values.
    """
    record = {
        "command": command,
        "recipe": dataclasses.asdict(recipe),
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {len(jax.devices())} {jax.devices()[0].device_kind}",
        "minutes_of_last_start": round(seconds / 60, 1),
        "scores": all_scores(scores),
        **found,
    }
    write_atomically(folder / RECIPE, json.dumps(record, indent=1) + "\n")
