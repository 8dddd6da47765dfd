"""The exact judges: ideal is 5, undone is 0 in following, and each perspective minds its own."""

import dataclasses

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.corruption import corrupt, draw_kinds
from mre_jax.toyworld.edits import KEEP, REMOVE, STYLE, Edits, apply, draw_edits
from mre_jax.toyworld.judge import box, judge, score
from mre_jax.toyworld.scene import LOOKS, Scenes, draw_scenes, render, streams
from mre_jax.toyworld.triplets import decode, encode

COUNT = 210


@dataclasses.dataclass
class World:
    scenes: Scenes
    edits: Edits
    source: np.ndarray
    target: np.ndarray

    def judge(self, candidate: np.ndarray) -> np.ndarray:
        return judge(self.source, self.target, candidate, self.edits.look != KEEP)


def make_world(size: int, count: int = COUNT) -> World:
    rngs = streams(0, 0, range(count))
    scenes = draw_scenes(rngs)
    edits = draw_edits(scenes, np.arange(count) % len(EDIT_TYPES), rngs)
    return World(scenes, edits, render(scenes, size), render(apply(scenes, edits), size))


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(64)


@pytest.fixture(scope="module")
def damaged() -> np.ndarray:
    """Mean scores [perspective damaged, severity, perspective judged]."""
    count = 105
    world, table = make_world(64, count), np.empty((3, 6, 3))
    for perspective, severity in np.ndindex(3, 6):
        rngs = streams(1, 0, range(count))
        severities = np.zeros((count, 3), int)
        severities[:, perspective] = severity
        kinds = draw_kinds(world.scenes, world.edits, severities, rngs)
        edited = corrupt(
            world.scenes, world.edits, world.source, world.target, severities, kinds, rngs
        )
        table[perspective, severity] = world.judge(edited).mean(0)
    return table


@pytest.mark.parametrize("size", [32, 64, 256])
def test_the_ideal_target_gets_full_marks_for_every_type(size):
    world = make_world(size, 42)
    np.testing.assert_allclose(world.judge(world.target), 5, atol=1e-5)


def test_flat_and_posterised_targets_get_full_marks(world):
    flat = (world.edits.kind == REMOVE) & (world.scenes.occupied.sum(1) == 1)
    poster = world.edits.look == LOOKS.index("poster")
    for rows in (flat, poster):
        assert rows.sum() >= 5
        np.testing.assert_allclose(world.judge(world.target)[rows], 5, atol=1e-5)


def test_half_a_style_edit_loses_following_and_no_quality(world):
    """The leak of a cruder judge: hard or flat targets must not look like damage."""
    half = world.source + np.float32(0.6) * (world.target - world.source)
    scores = world.judge(half)[world.edits.kind == STYLE]
    np.testing.assert_allclose(scores[:, 0], 3, atol=0.6)
    np.testing.assert_allclose(scores[:, 0].mean(), 3, atol=0.1)
    assert scores[:, 1:].mean(0).min() > 4.8


def test_the_unedited_source_follows_nothing_and_preserves_all(world):
    scores = world.judge(world.source)
    np.testing.assert_allclose(scores, np.broadcast_to([0, 5, 5], scores.shape), atol=1e-5)


def test_jpeg_files_of_quality_95_lose_at_most_a_third_of_a_point(world):
    def through_file(images: np.ndarray) -> np.ndarray:
        return np.stack([decode(encode(image, "jpg")) for image in images])

    ideal, unedited = (
        world.judge(through_file(world.target)),
        world.judge(through_file(world.source)),
    )
    assert ideal.min() > 5 - 0.33
    assert unedited[:, 0].max() < 0.33
    assert unedited[:, 1:].min() > 5 - 0.33


def test_no_damage_no_loss(damaged):
    np.testing.assert_allclose(damaged[:, 0], 5, atol=1e-5)


@pytest.mark.parametrize("perspective", range(3))
def test_scores_fall_with_the_severity_in_their_own_perspective(damaged, perspective):
    own = damaged[perspective, :, perspective]
    assert (np.diff(own) < -0.3).all(), own
    assert own[5] < 1.5


@pytest.mark.parametrize("perspective", range(3))
def test_damage_costs_the_other_perspectives_less_than_half(damaged, perspective):
    drop = 5 - damaged[perspective, 1:]
    others = np.delete(drop, perspective, axis=1)
    assert (others < drop[:, [perspective]] / 2).all(), drop


def test_mirroring_all_images_changes_no_score(world):
    rngs = streams(2, 0, range(COUNT))
    severities = np.full((COUNT, 3), 2)
    kinds = draw_kinds(world.scenes, world.edits, severities, rngs)
    edited = corrupt(world.scenes, world.edits, world.source, world.target, severities, kinds, rngs)
    mirrored = judge(
        world.source[:, :, ::-1],
        world.target[:, :, ::-1],
        edited[:, :, ::-1],
        world.edits.look != KEEP,
    )
    np.testing.assert_allclose(mirrored, world.judge(edited), atol=1e-3)


def test_a_score_does_not_depend_on_the_batch(world):
    edited = box(world.target)
    rows = np.arange(10, 17)
    alone = score(world.scenes[rows], world.edits[rows], edited[rows])
    np.testing.assert_allclose(alone, world.judge(edited)[rows], atol=1e-5)


def test_a_candidate_that_is_not_square_is_refused(world):
    with pytest.raises(DataError, match="64 x 32"):
        score(world.scenes, world.edits, world.target[:, :32])


def test_blur_is_a_loss_of_quality_and_a_blank_is_worse(world):
    blurred = world.judge(box(box(world.target)))[:, 2].mean()
    blank = world.judge(np.full_like(world.target, 0.5)).mean(0)
    assert blurred < 4.5
    assert blank[0] < 2
    assert blank[1] < 1
    assert blank[2] < blurred
