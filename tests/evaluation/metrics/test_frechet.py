import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg

from mre_jax.errors import DataError
from mre_jax.evaluation.metrics.frechet import Moments, frechet_distance

RNG = np.random.default_rng(0)


def _moments(rows, size=None):
    moments = Moments()
    for start in range(0, len(rows), size or len(rows)):
        moments.add(rows[start : start + (size or len(rows))])
    return moments


@settings(deadline=None)
@given(sizes=st.lists(st.integers(0, 7), min_size=1, max_size=6).filter(lambda s: sum(s) > 1))
def test_batches_of_any_size_give_the_moments_of_the_whole(sizes):
    rows = RNG.normal(size=(sum(sizes), 3)).astype(np.float32) + 1000
    moments = Moments()
    for part in np.split(rows, np.cumsum(sizes)[:-1]):
        moments.add(part)
    exact = rows.astype(np.float64)
    assert moments.count == len(rows)
    np.testing.assert_allclose(moments.mean, exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance(), np.cov(exact.T), rtol=1e-9, atol=1e-12)


def test_the_distance_of_normal_distributions_along_the_axes_is_known():
    # Columns with mean m and deviation s: the sum of (m - m')^2 + (s - s')^2.
    grid = np.array([[x, y] for x in (-1.0, 1.0) for y in (-1.0, 1.0)]) * math.sqrt(3) / 2
    a, b = grid * [2, 3] + [1, 0], grid * [5, 1] + [0, 4]
    expected = (2 - 5) ** 2 + (3 - 1) ** 2 + 1**2 + 4**2
    np.testing.assert_allclose(frechet_distance(_moments(a), _moments(b)), expected, rtol=1e-12)


def test_the_distance_is_that_of_scipys_matrix_root():
    mixing = RNG.normal(size=(20, 20))
    a = RNG.normal(size=(90, 20)) @ mixing
    b = RNG.normal(size=(70, 20)) + 0.3
    root = linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += np.trace(np.cov(a.T)) + np.trace(np.cov(b.T)) - 2 * np.trace(root)
    np.testing.assert_allclose(frechet_distance(_moments(a), _moments(b)), expected, rtol=1e-10)


def test_fewer_pictures_than_features_lose_no_digit():
    a, b = RNG.normal(size=(30, 200)), RNG.normal(size=(25, 200)) * 3
    # The trace of the root by the features themselves, which need no root.
    centred = [(x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b)]
    overlap = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum()
    expected += sum((x**2).sum() for x in centred) - 2 * overlap
    np.testing.assert_allclose(
        frechet_distance(_moments(a, 7), _moments(b, 4)), expected, rtol=1e-12
    )


def test_equal_sets_have_no_distance_and_constant_ones_only_that_of_their_means():
    a = RNG.normal(size=(30, 50))
    assert frechet_distance(_moments(a), _moments(a[::-1])) < 1e-10
    constant = np.ones((4, 50))
    assert frechet_distance(_moments(constant), _moments(constant * 3)) == 200


def test_memory_does_not_grow_with_the_number_of_pictures():
    moments = _moments(RNG.normal(size=(16, 64)))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            moments.add(RNG.normal(size=(16, 64)))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert moments.count == 201 * 16
    assert grown < 64 * 64 * 8


def test_what_has_no_distance_is_said_in_one_line():
    a = _moments(RNG.normal(size=(5, 3)))
    with pytest.raises(DataError, match="two pictures or more in each set, not 1"):
        frechet_distance(a, _moments(RNG.normal(size=(1, 3))))
    with pytest.raises(DataError, match="two pictures or more in each set, not 0"):
        frechet_distance(Moments(), a)
    with pytest.raises(DataError, match="widths 3 and 4"):
        frechet_distance(a, _moments(RNG.normal(size=(5, 4))))
    with pytest.raises(DataError, match="width 2 do not go with those of width 3"):
        a.add(np.zeros((1, 2)))
    with pytest.raises(DataError, match="not finite"):
        a.add(np.full((1, 3), np.nan))
