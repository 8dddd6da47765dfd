"""The demo's claims: a difference counts only if its interval says so."""

import pytest

from mre_jax.demo.claims import measure_claims
from tests.demo.rows import rows


def verdicts(best: float, worst: float, without: float, guided: float) -> dict[str, bool]:
    results = [*rows("reward", "5,5,5", best), *rows("reward", "0,0,0", worst)]
    results += [*rows("baseline", "", without), *rows("reward guidance", "5,5,5", guided)]
    return {claim.text: claim.holds for claim in measure_claims(results)}


def test_better_everywhere_holds():
    found = verdicts(3.5, 2, 3, 4)
    assert len(found) == 10
    assert all(found.values())


@pytest.mark.parametrize("perspective", ["following", "preserving", "quality"])
def test_no_better_than_the_worst_reward_or_none_fails_in_every_perspective(perspective):
    found = verdicts(3, 3, 3, 4)
    assert found[f"{perspective}: 5,5,5 above 0,0,0"] is False
    assert found[f"{perspective}: 5,5,5 above no reward"] is False


def test_guidance_must_gain_somewhere_and_lose_nowhere():
    same = verdicts(4, 2, 3, 4)
    assert [text for text, holds in same.items() if not holds] == [
        "guidance above 5,5,5 alone in following"
    ]
    lower = verdicts(4, 2, 3, 3.5)
    assert sum(not holds for holds in lower.values()) == 4


def test_a_claim_says_whether_it_holds():
    results = [*rows("reward", "5,5,5", 4), *rows("reward", "0,0,0", 4.5)]
    results += [*rows("baseline", "", 3), *rows("reward guidance", "5,5,5", 4)]
    first = str(measure_claims(results)[0])
    assert first.startswith("FAILS  following: 5,5,5 above 0,0,0")
    assert "-0.50 [-0.5" in first
