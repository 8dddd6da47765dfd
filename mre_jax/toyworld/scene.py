"""Scenes of the toy world and their pictures.

A scene is a coloured ground with one to three objects (shape x colour x texture) in a grid of two
by two slots. `Scenes` holds a batch of them as arrays; `render` is a pure function of it, so the
ideal result of an edit, itself a scene, is known to the last bit at every image size.

The objects of a drawn scene differ in colour, so "the red star" names one object. Where a row of
the grid holds one object its other slot is free, so "at the top" names one place. No name depends
on left and right: a pair of pictures may be mirrored and its instruction stays true.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Float, Int

from mre_jax.errors import DataError

Field = np.ndarray  # float32, one value per pixel
Distance = Callable[[Field, Field], Field]  # signed, inside negative, in radii

EMPTY = 0
SHAPES = ("empty", "circle", "square", "triangle", "star", "heart", "cross")
TEXTURES = ("plain", "striped", "dotted")
COLOURS = {
    "red": (0.87, 0.13, 0.17),
    "orange": (0.97, 0.50, 0.06),
    "yellow": (0.98, 0.84, 0.12),
    "green": (0.13, 0.62, 0.26),
    "blue": (0.13, 0.38, 0.88),
    "purple": (0.56, 0.19, 0.71),
}
BACKGROUNDS = {
    "cream": (0.97, 0.92, 0.77),
    "pink": (0.97, 0.76, 0.82),
    "light blue": (0.70, 0.86, 0.97),
    "light green": (0.74, 0.91, 0.70),
    "lavender": (0.82, 0.76, 0.95),
    "tan": (0.79, 0.67, 0.50),
    "navy": (0.13, 0.17, 0.37),
    "maroon": (0.38, 0.11, 0.17),
}
LOOKS = ("natural", "night", "foggy", "sunset", "grayscale", "negative", "poster")

SLOTS = np.array([(0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)])  # x, y; rows of two
RADIUS = 0.16
_REACH = np.float32(1.2)  # of an object and its border, in radii: it stays in its slot's quarter
_BORDER = np.float32(0.13)
_WHITE = np.float32(0.99)


@dataclasses.dataclass(frozen=True)
class Rows:
    """A batch as one array per field, all with first axis b."""

    def __len__(self) -> int:
        return len(getattr(self, dataclasses.fields(self)[0].name))

    def __getitem__(self, rows: Any) -> Self:
        """The rows chosen by a slice or an index array; the batch axis stays."""
        names = [field.name for field in dataclasses.fields(self)]
        return type(self)(**{name: getattr(self, name)[rows] for name in names})


@dataclasses.dataclass(frozen=True)
class Scenes(Rows):
    """A batch of scenes. Lengths are fractions of the image's side, y points down.

    Attributes:
        shape: index into SHAPES; EMPTY marks a free slot. The first four objects are the slots'.
        colour: index into COLOURS.
        texture: index into TEXTURES.
        x, y, radius: centre and size, kept to three decimals so that JSON holds them exactly.
        background: index into BACKGROUNDS.
        look: index into LOOKS, the map that is applied to the finished picture.
    """

    shape: Int[np.ndarray, "b k"]
    colour: Int[np.ndarray, "b k"]
    texture: Int[np.ndarray, "b k"]
    x: Float[np.ndarray, "b k"]
    y: Float[np.ndarray, "b k"]
    radius: Float[np.ndarray, "b k"]
    background: Int[np.ndarray, "b"]
    look: Int[np.ndarray, "b"]

    @property
    def occupied(self) -> Bool[np.ndarray, "b k"]:
        return self.shape != EMPTY

    def to_json(self) -> list[dict[str, Any]]:
        """One plain dict per scene, with names instead of indices and None for a free slot."""
        return [
            {
                "background": list(BACKGROUNDS)[self.background[row]],
                "look": LOOKS[self.look[row]],
                "objects": [self._object(row, slot) for slot in range(self.shape.shape[1])],
            }
            for row in range(len(self))
        ]

    def _object(self, row: int, slot: int) -> dict[str, Any] | None:
        if not self.occupied[row, slot]:
            return None
        place = {name: float(getattr(self, name)[row, slot]) for name in ("x", "y", "radius")}
        return {
            "shape": SHAPES[self.shape[row, slot]],
            "colour": list(COLOURS)[self.colour[row, slot]],
            "texture": TEXTURES[self.texture[row, slot]],
            **place,
        }

    @classmethod
    def from_json(cls, rows: Sequence[dict[str, Any]]) -> Self:
        """The inverse of `to_json`; the scenes must have equally many slots.

        Raises:
            DataError: a key is missing or a name is unknown.
        """
        try:
            objects = [
                [item or _free(slot) for slot, item in enumerate(r["objects"])] for r in rows
            ]

            def column(name: str) -> list[list[Any]]:
                return [[item[name] for item in row] for row in objects]

            return cls(
                shape=_indices(column("shape"), SHAPES),
                colour=_indices(column("colour"), COLOURS),
                texture=_indices(column("texture"), TEXTURES),
                x=np.array(column("x"), np.float64),
                y=np.array(column("y"), np.float64),
                radius=np.array(column("radius"), np.float64),
                background=_indices([row["background"] for row in rows], BACKGROUNDS),
                look=_indices([row["look"] for row in rows], LOOKS),
            )
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"not a scene of the toy world: {error}") from error


def _free(slot: int) -> dict[str, Any]:
    """A free slot, holding the place and size of what may be put there."""
    x, y = SLOTS[slot]
    return {
        "shape": "empty",
        "colour": "red",
        "texture": "plain",
        "x": float(x),
        "y": float(y),
        "radius": RADIUS,
    }


def _indices(names: list[Any], known: Sequence[str] | dict[str, Any]) -> Int[np.ndarray, "..."]:
    index = {name: number for number, name in enumerate(known)}
    return np.array(
        [[index[n] for n in row] if isinstance(row, list) else index[row] for row in names]
    )


# --- drawing scenes ------------------------------------------------------------------------------


def streams(seed: int, split: int, indices: Sequence[int]) -> list[np.random.Generator]:
    """One random stream per example, a function of (seed, split, index) alone."""
    return [np.random.default_rng((seed, split, index)) for index in indices]


def uniform(rngs: list[np.random.Generator], *shape: int) -> Float[np.ndarray, "b ..."]:
    """The next numbers in [0, 1) of every stream."""
    return np.stack([rng.random(shape) for rng in rngs])


def choose(allowed: Bool[np.ndarray, "b n"], u: Float[np.ndarray, "b"]) -> Int[np.ndarray, "b"]:
    """The index of one of the allowed columns, each equally likely for u uniform in [0, 1)."""
    rank = np.floor(u * allowed.sum(1))
    return np.argmax(np.cumsum(allowed, axis=1) > rank[:, None], axis=1)


def draw_scenes(rngs: list[np.random.Generator], *, held_out: bool = False) -> Scenes:
    """Draw one scene per stream.

    Every arrangement of objects has one background on which it only appears in held-out scenes
    and never in training scenes, so the two splits share no scene whatever their seeds.
    """
    u = uniform(rngs, 8, 4)
    occupied = _LAYOUTS[(u[:, 0, 0] * len(_LAYOUTS)).astype(int)]
    shape = np.where(occupied, 1 + (u[:, 1] * (len(SHAPES) - 1)).astype(int), EMPTY)
    # The ranks of random numbers are a permutation: no two objects get the same colour.
    palette = np.argsort(uniform(rngs, len(COLOURS)), axis=1)
    colour = np.where(occupied, palette[:, :4], 0)
    texture = np.where(occupied, (u[:, 2] * len(TEXTURES)).astype(int), 0)
    jitter = np.where(occupied[:, None], 2 * u[:, 3:6] - 1, 0)
    reserved = _reserved_background(shape, colour, texture)
    allowed = (np.arange(len(BACKGROUNDS)) == reserved[:, None]) == held_out
    return Scenes(
        shape=shape,
        colour=colour,
        texture=texture,
        x=np.round(SLOTS[:, 0] + 0.02 * jitter[:, 0], 3),
        y=np.round(SLOTS[:, 1] + 0.02 * jitter[:, 1], 3),
        radius=np.round(RADIUS + 0.012 * jitter[:, 2], 3),
        background=choose(allowed, u[:, 6, 0]),
        look=np.zeros(len(rngs), int),
    )


def _layouts() -> Bool[np.ndarray, "layouts 4"]:
    """Which slots hold an object: one to three, but never both slots of one row alone."""
    patterns = np.array(list(np.ndindex(2, 2, 2, 2)), bool)
    top, bottom = patterns[:, :2].sum(1), patterns[:, 2:].sum(1)
    return patterns[(top + bottom >= 1) & (top + bottom <= 3) & (abs(top - bottom) < 2)]


_LAYOUTS = _layouts()


def _reserved_background(
    shape: Int[np.ndarray, "b 4"], colour: Int[np.ndarray, "b 4"], texture: Int[np.ndarray, "b 4"]
) -> Int[np.ndarray, "b"]:
    """The background that is kept for held-out scenes, by a hash of what stands where."""
    code = (shape * len(COLOURS) + colour) * len(TEXTURES) + texture
    mixed = (code + 1) * np.array([7919, 104729, 1299709, 15485863])
    return (mixed.sum(1) // 64) % len(BACKGROUNDS)


# --- rendering -----------------------------------------------------------------------------------


def render(scenes: Scenes, size: int) -> Float[np.ndarray, "b H W 3"]:
    """The pictures of the scenes: float32 in [0, 1], `size` pixels square."""
    axis = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    ground = np.array(list(BACKGROUNDS.values()), np.float32)[scenes.background]
    shade = np.float32(1.03) - np.float32(0.12) * axis
    image = np.repeat(np.einsum("h,bc->bhc", shade, ground)[:, :, None], size, axis=2)
    for slot in range(scenes.shape.shape[1]):
        for shape, distance in enumerate(_DISTANCES, start=1):
            rows = np.flatnonzero(scenes.shape[:, slot] == shape)
            if len(rows):
                layer = image[rows]
                _paint(layer, scenes[rows], slot, axis, distance)
                image[rows] = layer
    image = np.clip(image, 0, 1)
    for look, develop in _DEVELOP.items():
        rows = np.flatnonzero(scenes.look == LOOKS.index(look))
        image[rows] = np.clip(develop(image[rows], axis[:, None, None]), 0, 1)
    return image


def _paint(image: Field, scenes: Scenes, slot: int, axis: Field, distance: Distance) -> None:
    """Lay the objects of one slot, all of one shape, over the images, with a white border."""
    x, y, radius = (
        getattr(scenes, name)[:, slot, None, None].astype(np.float32)
        for name in ("x", "y", "radius")
    )
    columns, lines = _span(axis, x, radius), _span(axis, y, radius)
    u, v = (axis[None, None, columns] - x) / radius, (axis[None, lines, None] - y) / radius
    pixels = radius * np.float32(len(axis))  # of one radius
    depth = distance(u, v) * pixels
    body = _cover(depth)[..., None]
    edge = np.maximum(depth - _BORDER * pixels, (np.hypot(u, v) - _REACH) * pixels)
    sticker = _cover(edge)[..., None]
    colour = np.array(list(COLOURS.values()), np.float32)[scenes.colour[:, slot]]
    ink = _pattern(scenes.texture[:, slot], u, v, pixels)[..., None]
    fill = colour[:, None, None] * ink + _WHITE * (1 - ink)
    window = image[:, lines, columns]
    window += sticker * (fill * body + _WHITE * (1 - body) - window)


def _span(axis: Field, centre: Field, radius: Field) -> slice:
    """The pixels that any of the objects can reach along one axis."""
    reach = _REACH * radius + 1 / len(axis)
    low, high = (centre - reach).min(), (centre + reach).max()
    return slice(*np.searchsorted(axis, (low, high)).tolist())


def _cover(depth: Field) -> Field:
    """How much of a pixel lies inside, from the signed distance of its centre in pixels."""
    return np.clip(np.float32(0.5) - depth, 0, 1)


def _pattern(texture: Int[np.ndarray, "b"], u: Field, v: Field, pixels: Field) -> Field:
    """The share of a pixel that is inked rather than white: bars or dots of half a radius."""
    period = np.float32(0.56)
    wave_u, wave_v = (abs((w / period) % 1 - np.float32(0.5)) * period for w in (u, v))
    bars = (wave_v - period * np.float32(0.27)) * pixels
    dots = (period * np.float32(0.34) - np.hypot(wave_u, wave_v)) * pixels
    which = texture[:, None, None]
    ink = np.where(which == 1, _cover(bars), _cover(dots))
    return np.where(which == 0, np.float32(1), ink)


def _points(count: int, reach: float, waist: float) -> Distance:
    """A star of `count` tips at distance `reach`, notched to `waist`, one tip up.

    The plane is folded onto half a tip, where the outline is one straight line.
    """
    fold = np.pi / count
    notch = np.array([waist * np.cos(fold) - reach, waist * np.sin(fold)])
    normal = (np.array([notch[1], -notch[0]]) / np.hypot(*notch)).astype(np.float32)

    def distance(u: Field, v: Field) -> Field:
        rho, angle = np.hypot(u, v), np.arctan2(u, -v)
        angle = abs((angle + np.float32(fold)) % np.float32(2 * fold) - np.float32(fold))
        along, across = rho * np.cos(angle) - np.float32(reach), rho * np.sin(angle)
        return along * normal[0] + across * normal[1]

    return distance


def _circle(u: Field, v: Field) -> Field:
    return np.hypot(u, v) - np.float32(0.92)


def _square(u: Field, v: Field) -> Field:
    return np.maximum(abs(u), abs(v)) - np.float32(0.80)


def _triangle(u: Field, v: Field) -> Field:
    return _points(3, 1.08, 0.54)(u, v - np.float32(0.12))


def _heart(u: Field, v: Field) -> Field:
    """A square on its corner with a disc on each of its upper sides."""
    u, v = abs(u), v - np.float32(0.06)
    square = (u + abs(v) - np.float32(0.84)) * np.float32(0.5**0.5)
    disc = np.hypot(u - np.float32(0.42), v + np.float32(0.42)) - np.float32(0.42 * 2**0.5)
    return np.minimum(square, disc)


def _cross(u: Field, v: Field) -> Field:
    u, v = abs(u), abs(v)
    arm, reach = np.float32(0.30), np.float32(0.90)
    return np.minimum(np.maximum(u - arm, v - reach), np.maximum(u - reach, v - arm))


_DISTANCES: tuple[Distance, ...] = (
    _circle,
    _square,
    _triangle,
    _points(5, 1.08, 0.50),
    _heart,
    _cross,
)


def _rgb(*values: float) -> Field:
    return np.array(values, np.float32)


def _night(image: Field, y: Field) -> Field:
    return image * _rgb(0.26, 0.30, 0.48) + _rgb(0.00, 0.01, 0.05)


def _foggy(image: Field, y: Field) -> Field:
    return image * np.float32(0.42) + np.float32(0.58) * _rgb(0.72, 0.74, 0.77)


def _sunset(image: Field, y: Field) -> Field:
    glow = np.float32(0.38) * (1 - y)
    return image * _rgb(0.95, 0.62, 0.52) * (1 - glow) + glow * _rgb(1.0, 0.58, 0.18)


def _grayscale(image: Field, y: Field) -> Field:
    return np.repeat(luminance(image)[..., None], 3, axis=-1)


def _negative(image: Field, y: Field) -> Field:
    return 1 - image


def _poster(image: Field, y: Field) -> Field:
    return np.round(image * 3) / np.float32(3)


def luminance(image: Float[np.ndarray, "b H W 3"]) -> Float[np.ndarray, "b H W"]:
    """Rec. 601 luma, of the input's dtype."""
    red, green, blue = np.moveaxis(image, -1, 0)
    return 0.299 * red + 0.587 * green + 0.114 * blue


_DEVELOP: dict[str, Callable[[Field, Field], Field]] = {
    "night": _night,
    "foggy": _foggy,
    "sunset": _sunset,
    "grayscale": _grayscale,
    "negative": _negative,
    "poster": _poster,
}
