"""The seven types of instruction, as in Real-Edit, and what they ask for.

An edit is the part of a scene that it changes: a slot and the new values of some fields. Its ideal
target is therefore again a scene, `apply(scenes, edits)`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Int

from mre_jax.errors import DataError
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.scene import (
    BACKGROUNDS,
    COLOURS,
    EMPTY,
    LOOKS,
    SHAPES,
    TEXTURES,
    Rows,
    Scenes,
    choose,
    uniform,
)

LOCAL, REMOVE, ADD, TEXTURE, BACKGROUND, GLOBAL, STYLE = range(7)
KEEP = -1

_NAMES: dict[str, Sequence[str]] = {
    "shape": SHAPES,
    "colour": tuple(COLOURS),
    "texture": TEXTURES,
    "background": tuple(BACKGROUNDS),
    "look": LOOKS,
}
_FAMILY = np.array([0, GLOBAL, GLOBAL, GLOBAL, STYLE, STYLE, STYLE])  # of every look
_LOOK_CAPTIONS = (
    "",
    " at night",
    " in fog",
    " at sunset",
    ", in grayscale",
    ", as a negative",
    ", in poster style",
)


@dataclasses.dataclass(frozen=True)
class Edits(Rows):
    """A batch of edits: indices into the names of `scene`, KEEP where nothing changes.

    Attributes:
        kind: index into EDIT_TYPES.
        slot: the object's slot; KEEP for an edit of the background or of the whole image.
    """

    kind: Int[np.ndarray, "b"]
    slot: Int[np.ndarray, "b"]
    shape: Int[np.ndarray, "b"]
    colour: Int[np.ndarray, "b"]
    texture: Int[np.ndarray, "b"]
    background: Int[np.ndarray, "b"]
    look: Int[np.ndarray, "b"]

    def to_json(self) -> list[dict[str, Any]]:
        """One plain dict per edit: the type, the slot, and the names of what changes."""
        return [self._row(row) for row in range(len(self))]

    def _row(self, row: int) -> dict[str, Any]:
        changes = {
            field: names[value]
            for field, names in _NAMES.items()
            if (value := getattr(self, field)[row]) != KEEP
        }
        slot = {} if self.slot[row] == KEEP else {"slot": int(self.slot[row])}
        return {"type": EDIT_TYPES[self.kind[row]], **slot, **changes}

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """The inverse of `to_json`.

        Raises:
            DataError: the type is missing or a name is unknown.
        """
        try:
            values = {
                field: np.array([names.index(r[field]) if field in r else KEEP for r in rows], int)
                for field, names in _NAMES.items()
            }
            kind = np.array([EDIT_TYPES.index(row["type"]) for row in rows], int)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not an edit of the toy world: {error}") from error
        return cls(kind=kind, slot=np.array([r.get("slot", KEEP) for r in rows], int), **values)


def apply(scenes: Scenes, edits: Edits) -> Scenes:
    """The scenes as the edits ask for them: the ideal targets."""

    def put(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(new != KEEP)
        out = old.copy()
        out[rows, edits.slot[rows]] = new[rows]
        return out

    return dataclasses.replace(
        scenes,
        shape=put(scenes.shape, edits.shape),
        colour=put(scenes.colour, edits.colour),
        texture=put(scenes.texture, edits.texture),
        background=np.where(edits.background == KEEP, scenes.background, edits.background),
        look=np.where(edits.look == KEEP, scenes.look, edits.look),
    )


def draw_edits(
    scenes: Scenes, kind: Int[np.ndarray, "b"], rngs: list[np.random.Generator]
) -> Edits:
    """Draw one edit of the given type per scene; it always changes the picture."""
    u = uniform(rngs, 7)
    free = ~scenes.occupied
    unambiguous = free & scenes.occupied[:, [1, 0, 3, 2]]  # the other slot of the row is taken
    slot = np.where(kind == ADD, choose(unambiguous, u[:, 0]), choose(scenes.occupied, u[:, 0]))
    shape, _, texture = _current(scenes, slot)
    recolour = u[:, 1] < 0.5
    new_shape = choose(_other(SHAPES, np.zeros_like(shape), shape), u[:, 2])
    unused = ~(_one_hot(scenes.colour, COLOURS) & scenes.occupied[..., None]).any(1)
    new_colour = choose(unused, u[:, 3])
    new_texture = choose(_other(TEXTURES, texture), u[:, 4])
    new_background = choose(_other(BACKGROUNDS, scenes.background), u[:, 5])
    new_look = choose(kind[:, None] == _FAMILY, u[:, 6])

    turn, paint = (kind == LOCAL) & ~recolour, (kind == LOCAL) & recolour
    return Edits(
        kind=kind,
        slot=np.where(kind <= TEXTURE, slot, KEEP),
        shape=np.select([turn | (kind == ADD), kind == REMOVE], [new_shape, EMPTY], KEEP),
        colour=np.where(paint | (kind == ADD), new_colour, KEEP),
        texture=np.select([kind == ADD, kind == TEXTURE], [0, new_texture], KEEP),
        background=np.where(kind == BACKGROUND, new_background, KEEP),
        look=np.where(kind >= GLOBAL, new_look, KEEP),
    )


def mistake(scenes: Scenes, edits: Edits, rngs: list[np.random.Generator]) -> Edits:
    """The same edits with a wrong attribute; what was to be removed is recoloured."""
    u = uniform(rngs, 5)
    remove = edits.kind == REMOVE
    shape, colour, texture = _current(scenes, edits.slot)
    other_shape = choose(_other(SHAPES, np.zeros_like(shape), shape, edits.shape), u[:, 0])
    other_colour = choose(_other(COLOURS, colour, edits.colour), u[:, 1])
    other_texture = choose(_other(TEXTURES, texture, edits.texture), u[:, 2])
    other_ground = choose(_other(BACKGROUNDS, scenes.background, edits.background), u[:, 3])
    family = (edits.kind[:, None] == _FAMILY) & _other(LOOKS, edits.look)

    def swap(asked: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.where(asked == KEEP, KEEP, other)

    return dataclasses.replace(
        edits,
        shape=np.where(remove, KEEP, swap(edits.shape, other_shape)),
        colour=np.where(remove, other_colour, swap(edits.colour, other_colour)),
        texture=np.where(edits.kind == TEXTURE, other_texture, edits.texture),
        background=swap(edits.background, other_ground),
        look=swap(edits.look, choose(family, u[:, 4])),
    )


def _current(scenes: Scenes, slot: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape, colour and texture of one slot per scene."""
    rows = np.arange(len(scenes))
    return scenes.shape[rows, slot], scenes.colour[rows, slot], scenes.texture[rows, slot]


def _one_hot(index: np.ndarray, names: Any) -> np.ndarray:
    return index[..., None] == np.arange(len(names))


def _other(names: Any, *excluded: np.ndarray) -> np.ndarray:
    """Which of the names remain, [b n], when each row excludes some of them."""
    return ~np.logical_or.reduce([_one_hot(index, names) for index in excluded])


# --- words ---------------------------------------------------------------------------------------


def instructions(scenes: Scenes, edits: Edits) -> list[str]:
    """What a user would write to ask for the edits, for example "make the red star blue"."""
    return [
        _instruction(scene, edit)
        for scene, edit in zip(scenes.to_json(), edits.to_json(), strict=True)
    ]


def _instruction(scene: dict[str, Any], edit: dict[str, Any]) -> str:
    slot = edit.get("slot", KEEP)
    item = scene["objects"][slot] if slot != KEEP else None
    name = f"the {item['colour']} {item['shape']}" if item else ""
    match edit:
        case {"type": "Remove"}:
            return f"remove {name}"
        case {"type": "Add", "colour": colour, "shape": shape}:
            place = "top" if slot < 2 else "bottom"
            return f"add {_article(colour)} {shape} at the {place}"
        case {"type": "Local", "colour": colour}:
            return f"make {name} {colour}"
        case {"type": "Local", "shape": shape}:
            return f"turn {name} into a {shape}"
        case {"type": "Texture", "texture": texture}:
            return f"make {name} {texture}"
        case {"type": "Background", "background": background}:
            return f"change the background to {background}"
        case {"type": "Global", "look": look}:
            return f"make it {look}"
        case {"type": "Style", "look": "grayscale"}:
            return "convert it to grayscale"
        case {"type": "Style", "look": look}:
            return f"convert it to {look} style"
    raise DataError(f"not an edit of the toy world: {edit}")


def captions(scenes: Scenes) -> list[str]:
    """A description of every scene, such as "a red star on a cream background at night"."""
    return [_caption(scene) for scene in scenes.to_json()]


def _caption(scene: dict[str, Any]) -> str:
    names = [
        _article(f"{'' if o['texture'] == 'plain' else o['texture'] + ' '}{o['colour']}")
        + f" {o['shape']}"
        for o in scene["objects"]
        if o
    ]
    things = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    ground = f"{_article(scene['background'])} background"
    place = f"{things} on {ground}" if things else ground
    return place + _LOOK_CAPTIONS[LOOKS.index(scene["look"])]


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
