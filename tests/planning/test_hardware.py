"""Slices by the names that people give them; a wrong one is answered with the nearest."""

import re

import pytest

from mre_jax.errors import ConfigError
from mre_jax.planning.hardware import chips, slice_named


@pytest.mark.parametrize(
    ("name", "topology", "count", "hosts"),
    [
        ("v5e:4x4", "4x4", 16, 4),
        ("v5e-16", "4x4", 16, 4),
        ("v5litepod-256", "16x16", 256, 64),
        ("v6e-1", "1x1", 1, 1),
        ("v4-8", "1x2x2", 4, 1),
        ("v5p:4x4x8", "4x4x8", 128, 32),
        ("h100-8", "8", 8, 1),
        ("V5E:2x4", "2x4", 8, 2),
    ],
)
def test_a_name_says_the_grid(name, topology, count, hosts):
    found = slice_named(name)
    assert (found.topology, found.chips, found.hosts) == (topology, count, hosts)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("v5e:4x5", "v5e:4x4"),
        ("v5e:32x32", "v5e:16x16"),
        ("v6e-20", "v6e:4x4"),
        ("v6e:4x4x4", "v6e:8x8"),
        ("v5p-0", "v5p:1x1x1"),
        ("v7e:4x4", "there are"),
        ("", "there are v4"),
        ("v5e:", "there are"),
    ],
)
def test_another_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=re.escape(nearest)) as raised:
        slice_named(name)
    assert "\n" not in str(raised.value)


def test_every_chip_has_a_peak_and_something_to_be_like():
    for chip in chips().values():
        assert chip.peak > 1e14
        assert chip.like in ("v5e", "v6e", "gpu")
