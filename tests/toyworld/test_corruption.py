"""Corruption: the stated distribution, damage that shows, and words that fit it."""

import numpy as np

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
