"""The data of the stages: requests as captions, and two prepared sets of edits."""

from pathlib import Path

import numpy as np

from mre_jax.data.cache.description import CacheOptions
from mre_jax.data.prepare import CacheSpec, PrepareSpec, cache, prepare
from mre_jax.io.files import write_atomically
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.toyworld.edits import apply, captions, draw_edits, instructions
from mre_jax.toyworld.scene import draw_scenes, streams
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.triplets import TRAINING

CAPTIONS, IDEAL, FLAWED = "captions.txt", "ideal", "flawed"
"""What a stage reads: a file or a folder of the one that `write_sets` fills."""

_DRAWN = 7_000
"""Scenes whose texts stand for all: each word and each request is in them many times."""


def texts(seed: int) -> tuple[list[str], list[str]]:
    """Requests, as often as each is made, and the different captions of scenes, edited or not."""
    rngs = streams(seed, TRAINING, range(_DRAWN))
    scenes = draw_scenes(rngs)
    edits = draw_edits(scenes, np.arange(_DRAWN) % len(EDIT_TYPES), rngs)
    described = {*captions(scenes), *captions(apply(scenes, edits))}
    return instructions(scenes, edits), sorted(described)


def write_sets(recipe: SmartEditRecipe, model: Path, size: int, folder: Path) -> None:
    """Writes what is missing of the sets, with the latents that the model's VAE makes of them.

    Args:
        size: pixels along a side.
        folder: to be filled.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CAPTIONS, "".join(f"{one}\n" for one in texts(recipe.seed)[0]))
    # No damage at all, or as much as any data set of the toy world has.
    for name, examples, clean in (
        (IDEAL, recipe.examples, 1.0),
        (FLAWED, recipe.flawed_examples, None),
    ):
        toy, shards = folder / f"{name}-toy", folder / f"{name}-shards"
        settings = Settings(
            examples,
            seed=recipe.seed,
            size=size,
            image_format="png",
            benchmark=1,
            clean_share=clean,
        )
        write_dataset(toy, settings)
        prepare(PrepareSpec("instruct_pix2pix", str(toy / "triplets"), out=str(shards)))
        options = CacheOptions(resolution=size, batch_size=64)
        cache(CacheSpec(str(shards), model=str(model), out=str(folder / name), cached=options))
