"""A judge that errs, errs as much as is stated, and the same way each time."""

import numpy as np
import pytest

from mre_jax.errors import ConfigError
from mre_jax.toyworld.misjudgement import Misjudgement


def test_noise_and_bias_are_those_that_are_stated():
    """Where clipping is far."""
    erring = Misjudgement(noise=0.4, bias=-0.25)
    errors = np.array([erring(2.5, f"edit {n}") - 2.5 for n in range(4000)])
    assert errors.mean() == pytest.approx(-0.25, abs=0.02)
    assert errors.std() == pytest.approx(0.4, rel=0.04)
    assert abs(np.corrcoef(errors[:-1], errors[1:])[0, 1]) < 0.05


def test_it_is_a_function_of_what_is_judged_and_the_seed():
    one, other = Misjudgement(noise=1.0), Misjudgement(noise=1.0, seed=1)
    assert [one(2.5, name) for name in "abc"] == [one(2.5, name) for name in "cba"][::-1]
    assert len({judge(2.5, name) for judge in (one, other) for name in "abc"}) == 6


def test_scores_stay_on_the_scale():
    erring = Misjudgement(noise=3.0, bias=1.0)
    found = [erring(exact, f"{n}") for n in range(200) for exact in (0.0, 5.0)]
    assert (min(found), max(found)) == (0, 5)


def test_without_an_error_a_score_is_what_it_was():
    assert not Misjudgement(seed=3)
    assert Misjudgement()(4.321, "a") == 4.321


@pytest.mark.parametrize("wrong", [{"noise": -1}, {"noise": float("inf")}, {"bias": float("nan")}])
def test_what_is_no_error_is_refused(wrong):
    with pytest.raises(ConfigError, match="want a noise of at least 0"):
        Misjudgement(**wrong)
