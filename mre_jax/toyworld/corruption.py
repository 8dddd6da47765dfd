"""Graded damage to an ideal edit: one kind per perspective, and what an annotator says of it.

It stands in for the noise of generated training pairs. A severity from 0 to 5 says how much damage
is done in a perspective; what it costs is for the judge to say, and the words follow the score.
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from mre_jax.reward.text import NO_FEEDBACK
from mre_jax.toyworld.edits import BACKGROUND, GLOBAL, Edits, apply, mistake
from mre_jax.toyworld.judge import box, changed, grow
from mre_jax.toyworld.scene import (
    COLOURS,
    SHAPES,
    SLOTS,
    Scenes,
    choose,
    render,
    uniform,
)

# Per perspective: kind of damage -> what is said of it, {} being how much.
FEEDBACK: tuple[dict[str, str], ...] = (
    {
        "clean": "The edit is {} inaccurate.",
        "partial": "The edit is {} incomplete.",
        "wrong": "The edit is {} wrong, another change was made.",
        "missing": "The edit is {} missing.",
    },
    {
        "clean": "The unedited parts are {} altered.",
        "tint": "The colours outside the edit are {} tinted.",
        "stray": "The image is {} cluttered by stray objects.",
        "shift": "The objects are {} shifted.",
    },
    {
        "clean": "The image is {} degraded.",
        "noise": "The image is {} noisy.",
        "checkerboard": "The image is {} covered by a checkerboard pattern.",
        "speckle": "The image is {} covered by speckles.",
    },
)
GRADES = ("completely", "severely", "strongly", "noticeably", "slightly")  # of scores 0 to 4

CLEAN = 0
PARTIAL, WRONG, MISSING = 1, 2, 3
TINT, STRAY, SHIFT = 1, 2, 3
NOISE, CHECKERBOARD, SPECKLE = 1, 2, 3

# How an edit of each severity may fail; columns clean, partial, wrong, missing.
_FAILURES = np.array(
    [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]], bool
)
_TINTS = np.array([(1, 0.2, 0.1), (0.1, 0.6, 0.1), (0.1, 0.3, 1), (0.9, 0.8, 0)], np.float32)
_STRAYS = 5


def draw_severities(
    rngs: list[np.random.Generator], clean_share: float | None = None
) -> Int[np.ndarray, "b 3"]:
    """Independent severities: 0 with probability 0.3, otherwise 1 to 5 alike.

    Args:
        clean_share: probability that all three are 0; where they are not, at least one is above 0
            and they are as usual but for that. None leaves it at 0.3 to the third, 0.027.
    """
    severities = _severities(uniform(rngs, 3))
    if clean_share is None:
        return severities
    clean = uniform(rngs) < clean_share
    while len(rows := np.flatnonzero(~clean & ~severities.any(1))):
        severities[rows] = _severities(uniform([rngs[row] for row in rows], 3))
    severities[clean] = 0
    return severities


def _severities(u: Float[np.ndarray, "b 3"]) -> Int[np.ndarray, "b 3"]:
    return np.where(u < 0.3, 0, 1 + (u - 0.3) // 0.14).clip(0, 5).astype(int)


def draw_kinds(
    scenes: Scenes,
    edits: Edits,
    severities: Int[np.ndarray, "b 3"],
    rngs: list[np.random.Generator],
) -> Int[np.ndarray, "b 3"]:
    """The kind of damage per perspective, an index into FEEDBACK's entries; CLEAN at severity 0.

    Only damage that shows is drawn: a tint is none beside an edit of the whole image; on a new
    background nothing but objects is there to be preserved; a shift needs an unedited object.
    """
    u = uniform(rngs, 3)
    always, never = np.ones(len(scenes), bool), np.zeros(len(scenes), bool)
    bystander = (scenes.occupied & _elsewhere(edits)).any(1)
    preserving = [never, edits.kind < GLOBAL, edits.kind != BACKGROUND, bystander]
    kinds = [
        choose(_FAILURES[severities[:, 0]], u[:, 0]),
        choose(np.stack(preserving, 1), u[:, 1]),
        choose(np.stack([never, always, always, always], 1), u[:, 2]),
    ]
    return np.where(severities == 0, CLEAN, np.stack(kinds, 1))


def corrupt(
    scenes: Scenes,
    edits: Edits,
    source: Float[np.ndarray, "b H W 3"],
    target: Float[np.ndarray, "b H W 3"],
    severities: Int[np.ndarray, "b 3"],
    kinds: Int[np.ndarray, "b 3"],
    rngs: list[np.random.Generator],
) -> Float[np.ndarray, "b H W 3"]:
    """The pictures of badly made edits, in [0, 1].

    Args:
        source, target: the pictures of `scenes` and `apply(scenes, edits)`; they set the size.
        severities: how much damage, 0 to 5, in following, preserving and quality.
        kinds: which damage, from `draw_kinds`.
    """
    following, preserving, quality = np.where(
        kinds.T[:, None] == np.arange(4)[:, None], severities.T[:, None], 0
    ).astype(np.float32)  # each [4 b], the severity of every kind
    world = _shifted(scenes, edits, preserving[SHIFT], rngs)
    world = _cluttered(world, edits, preserving[STRAY], rngs)
    edits = _mistaken(scenes, edits, kinds[:, 0] == WRONG, rngs)
    moved = preserving[STRAY] + preserving[SHIFT] > 0
    before = _redrawn(source, world, moved)
    after = _redrawn(target, apply(world, edits), moved | (kinds[:, 0] == WRONG))
    done = 1 - _column(following[PARTIAL] + following[MISSING]) / 5
    image = before + done * (after - before)
    # Two pixels from the edit, so that a tint is no matter of following.
    outside = 1 - box(grow(changed(source, target)).astype(np.float32))
    image = _tinted(image, outside, preserving[TINT], rngs)
    return np.clip(_degraded(image, quality, rngs), 0, 1)


def feedback(kinds: Int[np.ndarray, "b 3"], scores: Int[np.ndarray, "b 3"]) -> list[list[str]]:
    """Three texts per example: the kind of damage, and how much of it by the score (0 to 5)."""
    return [
        [
            list(texts.values())[kind].format(GRADES[value]) if value < 5 else NO_FEEDBACK
            for texts, kind, value in zip(FEEDBACK, *row, strict=True)
        ]
        for row in zip(kinds.tolist(), scores.tolist(), strict=True)
    ]


def _elsewhere(edits: Edits) -> np.ndarray:
    """The slots that an edit leaves alone, [b 4]; all of them if it is not about an object."""
    return np.arange(len(SLOTS)) != edits.slot[:, None]


def _column(amount: np.ndarray) -> np.ndarray:
    """[b] -> [b 1 1 1]."""
    return amount[:, None, None, None]


def _redrawn(image: np.ndarray, scenes: Scenes, rows: np.ndarray) -> np.ndarray:
    """The images with the pictures of some scenes in their place."""
    image, rows = image.copy(), np.flatnonzero(rows)
    image[rows] = render(scenes[rows], image.shape[1])
    return image


def _mistaken(
    scenes: Scenes, edits: Edits, wrong: np.ndarray, rngs: list[np.random.Generator]
) -> Edits:
    other = mistake(scenes, edits, rngs)
    names = [field.name for field in dataclasses.fields(Edits)]
    return Edits(**{n: np.where(wrong, getattr(other, n), getattr(edits, n)) for n in names})


def _shifted(
    scenes: Scenes, edits: Edits, amount: np.ndarray, rngs: list[np.random.Generator]
) -> Scenes:
    """Move the unedited objects, all the same way."""
    angle = 2 * np.pi * uniform(rngs)
    way = 0.013 * amount * np.stack([np.cos(angle), np.sin(angle)])
    x, y = way[..., None] * _elsewhere(edits)
    return dataclasses.replace(scenes, x=scenes.x + x, y=scenes.y + y)


def _cluttered(
    scenes: Scenes, edits: Edits, amount: np.ndarray, rngs: list[np.random.Generator]
) -> Scenes:
    """Add as many small objects as the severity says, in turn to the slots that are not edited."""
    u = uniform(rngs, 5, _STRAYS)
    turn = (u[:, 0, :1] + 0.618 * np.arange(_STRAYS)) % 1
    slot = np.stack([choose(_elsewhere(edits), turn[:, i]) for i in range(_STRAYS)], 1)
    shape = 1 + (u[:, 1] * (len(SHAPES) - 1)).astype(int)
    strays = {
        "shape": np.where(np.arange(_STRAYS) < amount[:, None], shape, 0),
        "colour": (u[:, 2] * len(COLOURS)).astype(int),
        "texture": np.zeros_like(slot),
        "x": SLOTS[slot, 0] + 0.3 * (u[:, 3] - 0.5),
        "y": SLOTS[slot, 1] + 0.3 * (u[:, 4] - 0.5),
        "radius": 0.065 + 0.014 * np.repeat(amount[:, None], _STRAYS, axis=1),
    }
    return dataclasses.replace(
        scenes,
        **{name: np.concatenate([getattr(scenes, name), new], 1) for name, new in strays.items()},
    )


def _tinted(
    image: np.ndarray, outside: np.ndarray, amount: np.ndarray, rngs: list[np.random.Generator]
) -> np.ndarray:
    tint = _TINTS[(uniform(rngs) * len(_TINTS)).astype(int)][:, None, None]
    return image + np.float32(0.11) * _column(amount) * outside * (tint - image)


def _degraded(image: np.ndarray, amount: np.ndarray, rngs: list[np.random.Generator]) -> np.ndarray:
    # Grey, as film grain is: coloured noise has so many dimensions that an autoencoder drops it.
    size = image.shape[1]
    lines, columns = np.indices((size, size))
    checks = np.where((lines + columns) % 2, np.float32(1), np.float32(-1))[..., None]
    image = image + np.float32(0.011) * _column(amount[CHECKERBOARD]) * checks
    for row in np.flatnonzero(amount[NOISE]):
        noise = rngs[row].standard_normal((size, size, 1), np.float32)
        image[row] += np.float32(0.032) * amount[NOISE, row] * noise
    for row in np.flatnonzero(amount[SPECKLE]):
        random = rngs[row].random((size, size, 2), np.float32)
        share = np.float32(0.14) * amount[SPECKLE, row] * (random[..., :1] < 0.3)
        image[row] += share * (random[..., 1:] - image[row])
    return image
