"""The demo's claims: a difference counts only if its interval says so."""

import pytest

from mre_jax.demo.claims import measure_claims, measure_filtering
from mre_jax.evaluation.results import Result


def rows(system: str, condition: str, value: float) -> list[Result]:
    return [
        Result(
            system=system,
            condition=condition,
            suite="real-edit",
            item=f"{group}-{number}",
            group=f"{group}",
            kind="Local",
            metric=metric,
            value=value * (1 + 0.01 * (group - 1.5)),
            passed=None,
            status="ok",
            measure="toy-1",
            prompt_hash="",
            checkpoint="",
            reason="",
            instruction="",
            original="",
            edited="",
        )
        for group in range(4)
        for number in range(2)
        for metric in ("following", "preserving", "quality")
    ]


def verdicts(best: float, worst: float, without: float) -> list[bool]:
    results = [*rows("reward", "5,5,5", best), *rows("reward", "0,0,0", worst)]
    return [claim.holds for claim in measure_claims([*results, *rows("baseline", "", without)])]


def test_better_everywhere_holds():
    assert verdicts(4, 2, 3) == [True] * 6


def test_no_better_than_the_worst_reward_fails_in_all_perspectives():
    assert verdicts(3, 3, 2)[:3] == [False] * 3


@pytest.mark.parametrize(("without", "following"), [(3, True), (4, False)])
def test_against_no_reward_following_may_be_equal_but_not_lower(without, following):
    found = {c.text: c.holds for c in measure_claims(
        [*rows("reward", "5,5,5", 3), *rows("reward", "0,0,0", 1), *rows("baseline", "", without)]
    )}  # fmt: skip
    assert found["following: asked 5,5,5 not below no reward"] is following
    assert found["quality: asked 5,5,5 above no reward"] is False


def test_nothing_is_claimed_of_filtering():
    results = [*rows("reward", "5,5,5", 2), *rows("filtered", "", 3)]
    found = measure_filtering(results)
    assert [claim.found.mean for claim in found] == pytest.approx([-1] * 3)
    assert all(claim.holds for claim in found)
    assert "holds" not in str(found[0])


def test_a_demo_without_filtering_measures_none():
    assert measure_filtering(rows("reward", "5,5,5", 2)) == []
