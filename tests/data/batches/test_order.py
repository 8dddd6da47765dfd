"""What a run reads depends on seed and position, never on hosts, steps taken or restarts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.batches.order import Order, draw, drop_conditions, permutation, positions
from mre_jax.errors import ConfigError

SEEDS = st.integers(0, 2**64 - 1)


@given(step=st.integers(0, 10**9), part=st.integers(1, 8), hosts=st.integers(1, 32))
def test_hosts_share_a_batch_without_gap_or_overlap(step, part, hosts):
    parts = [positions(step, part * hosts, host, hosts) for host in range(hosts)]
    np.testing.assert_array_equal(np.concatenate(parts), positions(step, part * hosts))


@given(seed=SEEDS, size=st.integers(1, 60), epochs=st.integers(1, 4))
def test_every_record_is_read_once_in_each_epoch(seed, size, epochs):
    _, records = Order((size,), seed).locate(np.arange(size * epochs))
    for epoch in records.reshape(epochs, size):
        assert sorted(epoch) == list(range(size))


@given(
    seed=SEEDS,
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    start=st.integers(0, 10**12),
    batch=st.sampled_from([32, 64, 96]),
)
def test_a_batch_is_the_same_from_any_position_and_any_number_of_hosts(seed, sizes, start, batch):
    order = Order(tuple(sizes), seed)
    whole, chance = order.locate(positions(start, batch)), draw(seed, positions(start, batch))
    for hosts in (2, 4, 8, 32):
        parts = [positions(start, batch, host, hosts) for host in range(hosts)]
        for want, got in zip(whole, zip(*map(order.locate, parts), strict=True), strict=True):
            np.testing.assert_array_equal(np.concatenate(got), want)
        for name in ("flip", "top", "left", "dropout", "key_data"):
            got = [getattr(draw(seed, part), name) for part in parts]
            np.testing.assert_array_equal(np.concatenate(got), getattr(chance, name))


def test_orders_differ_between_epochs_seeds_and_sets():
    orders = [permutation(*key) for key in [(0, 0, 99), (0, 1, 99), (1, 0, 99), (0, 0, 99, 1)]]
    assert all((a != b).any() for a, b in itertools.combinations(orders, 2))


def test_the_order_and_the_chance_of_a_seed_never_change():
    # A run that is resumed under another version of NumPy has to read on where it was.
    assert permutation(7, 2, 8).tolist() == [3, 1, 7, 2, 6, 0, 5, 4]
    assert draw(7, np.arange(3, 5)).key_data.tolist() == [
        [2917702117, 2439816258],
        [389489981, 1934913798],
    ]
    assert draw(7, np.arange(3, 5)).flip.tolist() == [0.0931189622036861, 0.2054758224234967]


def test_chance_is_even_and_conditions_are_dropped_at_their_rate():
    draws = draw(3, np.arange(200_000))
    for values in (draws.flip, draws.top, draws.left, draws.dropout):
        assert 0 <= values.min() < values.max() < 1
        assert abs(values.mean() - 0.5) < 0.003
    assert abs(np.corrcoef([draws.flip, draws.top, draws.left, draws.dropout])[0, 1:]).max() < 0.01
    text, image = drop_conditions(draws.dropout, 0.05)
    for rate in ((text & ~image).mean(), (image & ~text).mean(), (text & image).mean()):
        assert abs(rate - 0.05) < 0.002
    assert len(np.unique(draws.key_data, axis=0)) == 200_000
    assert not np.any(drop_conditions(draws.dropout, 0))


@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    start=st.integers(0, 5000),
    data=st.data(),
)
def test_a_mixture_keeps_its_weights_in_every_stretch(sizes, start, data):
    weights = tuple(data.draw(st.integers(1, 9)) for _ in sizes)
    sets, _ = Order(tuple(sizes), 0, weights).locate(np.arange(start, start + 1000))
    counts = np.bincount(sets, minlength=len(sizes))
    np.testing.assert_allclose(counts, np.array(weights) / sum(weights) * 1000, atol=1)
    some = np.bincount(sets[:100], minlength=len(sizes))
    np.testing.assert_allclose(some, np.array(weights) / sum(weights) * 100, atol=len(sizes))


def test_each_set_of_a_mixture_has_its_own_epochs():
    sets, records = Order((5, 30), 0, (1, 3)).locate(np.arange(4000))
    for number, size in enumerate((5, 30)):
        mine = records[sets == number]
        for epoch in mine[: len(mine) // size * size].reshape(-1, size):
            assert sorted(epoch) == list(range(size))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Order((), 0), "one or more"),
        (lambda: Order((3, 0), 0), "one or more"),
        (lambda: Order((3,), -1), "seed=-1"),
        (lambda: Order((3, 4), 0, (1.0,)), "one above 0 for each"),
        (lambda: Order((3, 4), 0, (1.0, 0.0)), "one above 0 for each"),
        (lambda: Order((3, 4), 0, (1.0, 1e-6)), "leave that set out or give it more"),
        (lambda: positions(0, 6, 0, 4), "batch_size=6 must be a multiple of the 4 hosts"),
        (lambda: positions(0, 8, 4, 4), "host=4 of 4"),
        (lambda: drop_conditions(np.zeros(1), 0.4), r"dropout 0.4 must be in 0 .. 1/3"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
