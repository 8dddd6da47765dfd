"""Corruption: the stated distribution, damage that shows, and words that fit it."""

import numpy as np
import pytest

from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.corruption import (
    FEEDBACK,
    STRAY,
    TINT,
    corrupt,
    draw_kinds,
    draw_severities,
    feedback,
)
from mre_jax.toyworld.edits import BACKGROUND, GLOBAL, apply, draw_edits
from mre_jax.toyworld.scene import draw_scenes, render, streams
from mre_jax.toyworld.triplets import draw_triplets


def test_severities_are_independent_and_zero_in_three_of_ten():
    severities = draw_severities(streams(0, 0, range(6000)))
    for column in severities.T:
        shares = np.bincount(column, minlength=6) / 6000
        np.testing.assert_allclose(shares, [0.3] + [0.14] * 5, atol=0.03)
    assert abs(np.corrcoef(severities.T) - np.eye(3)).max() < 0.05


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_a_share_of_clean_triplets_is_as_asked_and_the_others_are_as_usual(share):
    count = 4000
    severities = draw_severities(streams(0, 0, range(count)), share)
    damaged = severities[severities.any(1)]
    spread = 4 * np.sqrt(share * (1 - share) / count)
    assert 1 - len(damaged) / count == pytest.approx(share, abs=spread)
    if len(damaged):
        usual = draw_severities(streams(1, 0, range(count)))
        usual = usual[usual.any(1)]
        for ours, theirs in zip(damaged.T, usual.T, strict=True):
            shares = [np.bincount(x, minlength=6) / len(x) for x in (ours, theirs)]
            np.testing.assert_allclose(*shares, atol=0.04)


def test_what_a_triplet_is_does_not_depend_on_its_neighbours():
    """Though some are drawn again until there is damage."""
    alone = [draw_severities(streams(0, 0, [index]), 0.05)[0] for index in range(200)]
    np.testing.assert_array_equal(draw_severities(streams(0, 0, range(200)), 0.05), alone)


def test_variants_are_of_one_scene_and_edit_and_damaged_independently():
    one, two = (draw_triplets(0, range(140), 16, variant=variant) for variant in range(2))
    np.testing.assert_array_equal(one.source, two.source)
    np.testing.assert_array_equal(one.target, two.target)
    assert abs(np.corrcoef(one.severities.ravel(), two.severities.ravel())[0, 1]) < 0.15


def test_kinds_are_clean_exactly_at_severity_zero_and_only_such_as_show():
    count = 700
    rngs = streams(0, 0, range(count))
    scenes = draw_scenes(rngs)
    edits = draw_edits(scenes, np.arange(count) % len(EDIT_TYPES), rngs)
    severities = draw_severities(rngs)
    kinds = draw_kinds(scenes, edits, severities, rngs)
    np.testing.assert_array_equal(kinds == 0, severities == 0)
    assert not (kinds[:, 1] == TINT)[edits.kind >= GLOBAL].any()
    assert not (kinds[:, 1] == STRAY)[edits.kind == BACKGROUND].any()
    for perspective in range(3):
        assert set(kinds[:, perspective]) == set(range(len(FEEDBACK[perspective])))


def test_severity_zero_is_the_ideal_target():
    rngs = streams(0, 0, range(14))
    scenes = draw_scenes(rngs)
    edits = draw_edits(scenes, np.arange(14) % 7, rngs)
    source, target = render(scenes, 32), render(apply(scenes, edits), 32)
    nothing = np.zeros((14, 3), int)
    edited = corrupt(scenes, edits, source, target, nothing, nothing, rngs)
    np.testing.assert_allclose(edited, target, atol=1e-6)


def test_the_arguments_are_left_as_they_were():
    triplets = draw_triplets(0, range(7), 32)
    source = triplets.source.copy()
    corrupt(
        triplets.scenes,
        triplets.edits,
        triplets.source,
        triplets.target,
        np.full((7, 3), 5),
        np.full((7, 3), 1),
        streams(0, 0, range(7)),
    )
    np.testing.assert_array_equal(triplets.source, source)


def test_a_triplet_does_not_depend_on_its_batch():
    np.testing.assert_array_equal(
        draw_triplets(3, range(20), 32).edited[12:15], draw_triplets(3, range(12, 15), 32).edited
    )


def test_texts_name_the_damage_and_its_extent_and_full_marks_have_none():
    kinds, scores = np.array([[1, 2, 3], [3, 0, 0]]), np.array([[2, 4, 5], [0, 3, 5]])
    assert feedback(kinds, scores) == [
        [
            "The edit is strongly incomplete.",
            "The image is slightly cluttered by stray objects.",
            "None",
        ],
        ["The edit is completely missing.", "The unedited parts are noticeably altered.", "None"],
    ]
