import itertools

import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.metrics.kernel import kernel_distance

RNG = np.random.default_rng(0)
A = RNG.normal(size=(9, 6))
B = RNG.normal(size=(7, 6)) * 1.3 + 0.4


def _by_pairs(a, b):
    """The definition: means over all pairs of different pictures, and over all pairs across."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [
        np.mean([kernel(x, y) for x, y in itertools.permutations(rows, 2)]) for rows in (a, b)
    ]
    return sum(within) - 2 * np.mean([kernel(x, y) for x in a for y in b])


def test_whole_sets_are_compared_by_the_definition():
    distance = kernel_distance(A, B)
    np.testing.assert_allclose(distance.value, _by_pairs(A, B), rtol=1e-12)
    assert (distance.subsets, distance.subset_size, distance.deviation) == (1, 7, 0)


def test_equal_distributions_are_zero_apart_if_no_picture_stands_twice():
    """80 photos with 7 edits each: a reference that repeats the photos measures the repetition."""
    rng = np.random.default_rng(3)
    photos, edits = rng.normal(size=(80, 64)), rng.normal(size=(560, 64))
    found = kernel_distance(photos, edits)
    assert abs(found.value) < 3 * found.standard_error
    assert kernel_distance(np.repeat(photos, 7, axis=0), edits).value > 5 * found.standard_error


def test_the_standard_error_is_the_jackknifes():
    left_a = [_by_pairs(np.delete(A, i, 0), B) for i in range(9)]
    left_b = [_by_pairs(A, np.delete(B, i, 0)) for i in range(7)]
    expected = np.sqrt(8 * np.var(left_a) + 6 * np.var(left_b))
    np.testing.assert_allclose(kernel_distance(A, B).standard_error, expected, rtol=1e-12)


def test_the_standard_error_is_the_spread_of_repeated_experiments():
    rng = np.random.default_rng(1)
    runs = [
        kernel_distance(rng.normal(size=(60, 8)), rng.normal(size=(60, 8)) + 0.5)
        for _ in range(200)
    ]
    spread = np.std([run.value for run in runs])
    told = np.mean([run.standard_error for run in runs])
    assert 0.8 < told / spread < 1.3


def test_subsets_are_a_function_of_the_seed_and_have_the_same_mean():
    a, b = RNG.normal(size=(80, 6)), RNG.normal(size=(70, 6)) + 0.5
    options = {"subsets": 400, "subset_size": 20}
    first, again, other = (kernel_distance(a, b, **options, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.value != other.value
    whole = kernel_distance(a, b)
    assert abs(first.value - whole.value) < 5 * first.deviation / np.sqrt(400)
    assert first.standard_error == whole.standard_error
    assert (first.subsets, first.subset_size) == (400, 20)


def test_sets_of_one_source_have_a_distance_around_zero_whatever_their_size():
    rng = np.random.default_rng(2)
    for n in (10, 40):
        values = [
            kernel_distance(rng.normal(size=(n, 5)), rng.normal(size=(n, 5))).value
            for _ in range(300)
        ]
        assert min(values) < 0
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)


@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (A[:2], B, {}, DataError, "three pictures or more in each set, not 2"),
        (A, B[:, :5], {}, DataError, "widths 6 and 5"),
        (A, B * np.inf, {}, DataError, "not finite"),
        (A, B, {"subsets": 0}, ConfigError, "0 subsets of 1000"),
        (A, B, {"subset_size": 1}, ConfigError, "100 subsets of 1 are"),
    ],
)
def test_what_has_no_distance_is_said_in_one_line(a, b, options, error, message):
    with pytest.raises(error, match=message):
        kernel_distance(a, b, **options)
