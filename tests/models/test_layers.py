import numpy as np
from flax import nnx

from mre_jax.models.layers import make_rngs


def test_keys_are_flaxs_own_and_a_count_given_out_stays_as_it_was():
    """JAX reads it when it gets there: a count that moves on meanwhile gives another key."""
    ours, theirs = make_rngs(3), nnx.Rngs(3)
    given = ours.default.count[...]
    for _ in range(3):
        assert ours.params() == theirs.params()
    assert given == 0 and np.asarray(ours.default.count[...]) == 3
