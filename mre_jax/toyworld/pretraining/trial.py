"""A first look at a toy editor: held-out scenes, each type of instruction, the exact judges."""

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.request import EditConditions
from mre_jax.editing.settings import SamplingSettings
from mre_jax.io.image import to_pil
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld import GUIDANCE
from mre_jax.toyworld.edits import draw_edits, instructions
from mre_jax.toyworld.judge import score
from mre_jax.toyworld.scene import draw_scenes, render, streams
from mre_jax.toyworld.triplets import HELD_OUT

_SCENES, _STEPS = 24, 20
_SEED = 987  # not that of a benchmark


def try_editor(pipeline: EditPipeline, size: int) -> Float[np.ndarray, "7 3"]:
    """Mean scores by type and perspective, at the sizes of `size` pixels along a side."""
    rngs = streams(_SEED, HELD_OUT, range(_SCENES))
    scenes = draw_scenes(rngs, held_out=True)
    photos = [to_pil(picture) for picture in render(scenes, size)]
    conditions = EditConditions(**GUIDANCE)
    rows = []
    for kind, name in enumerate(tqdm(EDIT_TYPES, desc="trial", disable=None)):
        edits = draw_edits(scenes, np.full(_SCENES, kind), rngs)
        asked = instructions(scenes, edits)
        requests = [
            conditions.request(text, id=f"{number}-{name}") for number, text in enumerate(asked)
        ]
        edited = pipeline.edit(requests, photos, SamplingSettings(_STEPS))
        arrays = np.stack([np.asarray(picture) for picture in edited]) / 255
        rows.append(score(scenes, edits, arrays).mean(0))
    return np.stack(rows)
