"""Scenes: reproducible, unambiguous, disjoint between the splits, and rendered exactly."""

import dataclasses
import json

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.toyworld.scene import (
    EMPTY,
    LOOKS,
    SHAPES,
    Scenes,
    choose,
    draw_scenes,
    render,
    streams,
)


def draw(count: int, *, seed: int = 0, start: int = 0, held_out: bool = False) -> Scenes:
    return draw_scenes(streams(seed, int(held_out), range(start, start + count)), held_out=held_out)


def same(one: Scenes, other: Scenes) -> bool:
    return one.to_json() == other.to_json()


def test_a_scene_depends_on_its_index_and_not_on_the_batch():
    assert same(draw(10)[4:7], draw(3, start=4))
    assert not same(draw(3), draw(3, seed=1))


def test_no_two_objects_of_a_scene_share_a_colour():
    scenes = draw(500)
    for row in range(len(scenes)):
        colours = scenes.colour[row][scenes.occupied[row]]
        assert len(set(colours.tolist())) == len(colours)


def test_one_to_three_objects_and_always_a_row_with_one_free_slot():
    occupied = draw(500).occupied
    assert set(occupied.sum(1)) == {1, 2, 3}
    assert (occupied[:, :2].sum(1) == 1).astype(int).max() == 1
    assert ((occupied[:, :2].sum(1) == 1) | (occupied[:, 2:].sum(1) == 1)).all()


def test_held_out_scenes_never_occur_in_training_whatever_the_seed():
    def content(scenes: Scenes) -> set[tuple]:
        fields = (scenes.shape, scenes.colour, scenes.texture, scenes.background[:, None])
        return set(map(tuple, np.concatenate(fields, 1).tolist()))

    training = content(draw(3000)) | content(draw(3000, seed=5))
    assert not training & content(draw(3000, held_out=True))
    assert not training & content(draw(3000, seed=5, held_out=True))


def test_objects_stay_in_their_quarter_so_that_none_touches_another():
    scenes, size = draw(300), 64
    half = size // 2
    alone = dataclasses.replace(scenes, shape=scenes.shape.copy())
    alone.shape[:, 1:] = EMPTY
    nothing = dataclasses.replace(scenes, shape=np.zeros_like(scenes.shape))
    drawn = np.any(render(alone, size) != render(nothing, size), axis=-1)
    assert drawn[:, :half, :half].any()
    assert not drawn[:, half:].any()
    assert not drawn[:, :, half:].any()


@pytest.mark.parametrize("size", [32, 64, 256])
def test_pictures_are_float32_in_the_unit_range_and_do_not_depend_on_the_batch(size):
    scenes = draw(12)
    pictures = render(scenes, size)
    assert pictures.shape == (12, size, size, 3)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    np.testing.assert_array_equal(pictures[5:6], render(scenes[5:6], size))


def test_sizes_show_the_same_scene():
    scenes = draw(12)
    large, small = render(scenes, 256), render(scenes, 64)
    pooled = large.reshape(12, 64, 4, 64, 4, 3).mean((2, 4))
    assert abs(pooled - small).mean() < 0.01


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_every_shape_is_symmetric_and_of_similar_area(shape):
    scenes = dataclasses.replace(
        draw(1),
        shape=np.array([[SHAPES.index(shape), 0, 0, 0]]),
        texture=np.zeros((1, 4), int),
        x=np.full((1, 4), 0.5),
    )
    picture = render(scenes, 64)
    np.testing.assert_allclose(picture, picture[:, :, ::-1], atol=1e-5)
    empty = render(dataclasses.replace(scenes, shape=np.zeros((1, 4), int)), 64)
    area = np.any(picture != empty, axis=-1).mean()
    assert 0.05 < area < 0.13


def test_looks_change_every_picture():
    scenes = draw(40)
    natural = render(scenes, 32)
    for look in range(1, len(LOOKS)):
        seen = render(dataclasses.replace(scenes, look=np.full(40, look)), 32)
        assert abs(seen - natural).mean((1, 2, 3)).min() > 0.01, LOOKS[look]


def test_scenes_survive_json_to_the_last_bit():
    scenes = draw(20)
    read = Scenes.from_json(json.loads(json.dumps(scenes.to_json())))
    np.testing.assert_array_equal(render(read, 32), render(scenes, 32))


def test_an_unknown_name_in_json_is_named():
    rows = draw(1).to_json()
    rows[0]["background"] = "plaid"
    with pytest.raises(DataError, match="plaid"):
        Scenes.from_json(rows)


def test_choose_is_uniform_over_the_allowed():
    allowed = np.tile([True, False, True, True], (3000, 1))
    picked = choose(allowed, np.linspace(0, 1, 3000, endpoint=False))
    assert np.bincount(picked, minlength=4).tolist() == [1000, 0, 1000, 1000]
