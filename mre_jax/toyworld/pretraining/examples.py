"""The triplets a toy editor is pretrained on: ideal edits, and edits as flawed as a data set's."""

import functools
import itertools
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from mre_jax.io.processes import end_with_parent
from mre_jax.toyworld.corruption import FEEDBACK, GRADES, NO_FEEDBACK
from mre_jax.toyworld.edits import instructions
from mre_jax.toyworld.pretraining.recipe import Recipe
from mre_jax.toyworld.triplets import draw_triplets, to_bytes

_CHUNK = 250


class Examples(NamedTuple):
    """Triplets in memory.

    Attributes:
        original: pictures.
        target: the ideal edits.
        edited: what a data set shows instead.
        instruction: texts.
    """

    original: UInt8[np.ndarray, "n H W 3"]
    target: UInt8[np.ndarray, "n H W 3"]
    edited: UInt8[np.ndarray, "n H W 3"]
    instruction: list[str]


def draw_examples(recipe: Recipe, workers: int) -> Examples:
    """The triplets of a recipe, drawn by some processes."""
    starts = range(0, recipe.examples, _CHUNK)
    draw = functools.partial(_draw, recipe)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        original, target, edited, asked = zip(*pool.map(draw, starts), strict=True)
    texts = list(itertools.chain.from_iterable(asked))
    join = np.concatenate
    return Examples(join(original), join(target), join(edited), texts)


def all_texts(examples: Examples) -> Iterable[str]:
    """Every instruction, and every sentence that a reward may hold."""
    yield from examples.instruction
    for sentences in FEEDBACK:
        for sentence in sentences.values():
            yield from (f"{sentence.format(grade)}; {NO_FEEDBACK}" for grade in GRADES)


def _draw(recipe: Recipe, start: int) -> Examples:
    indices = range(start, min(start + _CHUNK, recipe.examples))
    triplets = draw_triplets(recipe.seed, indices, recipe.size)
    asked = instructions(triplets.scenes, triplets.edits)
    return Examples(
        to_bytes(triplets.source), to_bytes(triplets.target), to_bytes(triplets.edited), asked
    )
