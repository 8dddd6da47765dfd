"""Edits: each type changes what it says, and its words name one thing."""

import json

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.edits import (
    ADD,
    KEEP,
    REMOVE,
    Edits,
    apply,
    captions,
    draw_edits,
    instructions,
    mistake,
)
from mre_jax.toyworld.scene import Scenes, draw_scenes, render, streams

COUNT = 350


@pytest.fixture(scope="module")
def world() -> tuple[Scenes, Edits, list[np.random.Generator]]:
    rngs = streams(0, 0, range(COUNT))
    scenes = draw_scenes(rngs)
    return scenes, draw_edits(scenes, np.arange(COUNT) % len(EDIT_TYPES), rngs), rngs


def test_every_edit_changes_the_picture(world):
    scenes, edits, _ = world
    change = abs(render(apply(scenes, edits), 32) - render(scenes, 32))
    assert change.max((1, 2, 3)).min() > 0.05


def test_an_edit_of_an_object_leaves_the_other_objects_alone(world):
    scenes, edits, _ = world
    target = apply(scenes, edits)
    others = np.arange(4) != edits.slot[:, None]
    for field in ("shape", "colour", "texture"):
        before, after = getattr(scenes, field), getattr(target, field)
        np.testing.assert_array_equal(before[others], after[others])


def test_remove_empties_and_add_fills_one_slot(world):
    scenes, edits, _ = world
    difference = apply(scenes, edits).occupied.sum(1) - scenes.occupied.sum(1)
    expected = np.select([edits.kind == REMOVE, edits.kind == ADD], [-1, 1], 0)
    np.testing.assert_array_equal(difference, expected)


def test_an_added_object_has_a_new_colour_and_the_only_free_slot_of_its_row(world):
    scenes, edits, _ = world
    for row in np.flatnonzero(edits.kind == ADD):
        slot, occupied = edits.slot[row], scenes.occupied[row]
        assert not occupied[slot]
        assert occupied[slot ^ 1]  # the other one of the row
        assert edits.colour[row] not in scenes.colour[row][occupied]


def test_a_mistake_is_neither_what_was_asked_nor_nothing(world):
    scenes, edits, rngs = world
    wrong = apply(scenes, mistake(scenes, edits, rngs))
    pictures = render(wrong, 32)
    for right in (scenes, apply(scenes, edits)):
        assert abs(pictures - render(right, 32)).max((1, 2, 3)).min() > 0.05


def test_words_of_every_type():
    objects = [{"shape": "star", "colour": "red", "texture": "dotted"}, None, None]
    objects += [{"shape": "heart", "colour": "orange", "texture": "plain"}]
    place = {"x": 0.3, "y": 0.3, "radius": 0.16}
    scene = {
        "background": "light blue",
        "look": "natural",
        "objects": [o and {**o, **place} for o in objects],
    }
    asked = {
        "make the red star blue": {"type": "Local", "slot": 0, "colour": "blue"},
        "turn the red star into a heart": {"type": "Local", "slot": 0, "shape": "heart"},
        "remove the orange heart": {"type": "Remove", "slot": 3, "shape": "empty"},
        "add an orange cross at the top": {
            "type": "Add", "slot": 1, "shape": "cross", "colour": "orange", "texture": "plain",
        },
        "make the orange heart striped": {"type": "Texture", "slot": 3, "texture": "striped"},
        "change the background to navy": {"type": "Background", "background": "navy"},
        "make it foggy": {"type": "Global", "look": "foggy"},
        "convert it to grayscale": {"type": "Style", "look": "grayscale"},
        "convert it to poster style": {"type": "Style", "look": "poster"},
    }  # fmt: skip
    scenes, edits = Scenes.from_json([scene] * len(asked)), Edits.from_json(list(asked.values()))
    assert instructions(scenes, edits) == list(asked)
    assert captions(scenes)[0] == "a dotted red star and an orange heart on a light blue background"
    after = captions(apply(scenes, edits))
    assert after[2] == "a dotted red star on a light blue background"
    assert after[7].endswith("background, in grayscale")


def test_no_words_depend_on_left_and_right_so_that_pairs_may_be_mirrored(world):
    scenes, edits, _ = world
    words = " ".join(instructions(scenes, edits) + captions(scenes))
    assert "left" not in words
    assert "right" not in words


def test_edits_survive_json(world):
    _, edits, _ = world
    read = Edits.from_json(json.loads(json.dumps(edits.to_json())))
    for field in ("kind", "slot", "shape", "colour", "texture", "background", "look"):
        np.testing.assert_array_equal(getattr(read, field), getattr(edits, field))
    assert (read.slot[edits.kind > 3] == KEEP).all()


def test_an_unknown_type_is_refused():
    with pytest.raises(DataError, match="not an edit"):
        Edits.from_json([{"type": "Explode"}])
