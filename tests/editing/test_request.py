"""A request that cannot be carried out is refused in one line when it is made."""

import json

import numpy as np
import pytest

from mre_jax.editing.request import EditConditions, EditRequest, spread
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import parse_size
from mre_jax.errors import ConfigError, MreError


def test_scores_are_taken_as_floats():
    request = EditRequest(prompt="make it snow", reward_scores=[5, 4.5, 0])
    assert request.reward_scores == (5.0, 4.5, 0.0)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((5, 5), "scores \\(5, 5\\): want 3 of them"),
        ((5, 5, 5, 5), "want 3 of them"),
        ((5, 5, 6), "6 is not in 0 to 5"),
        ((5, -1, 5), "-1 is not in 0 to 5"),
        ((5, float("nan"), 5), "nan is not in 0 to 5"),
        ((5, "5", 5), "'5' is not a number"),
        ((5, True, 5), "True is not a number"),
        ("5,5,5", "want 3 of them"),
        (5, "want 3 of them"),
    ],
)
def test_bad_scores_are_named(scores, message):
    with pytest.raises(ConfigError, match=message):
        EditRequest(prompt="make it snow", reward_scores=scores)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", "  ", "prompt is empty"),
        ("reward_text", 5, "reward_text 5 is not a text"),
        ("negative_prompt", None, "negative_prompt None is not a text"),
        ("guidance_scale", "7.5", "guidance_scale '7.5' is not a number"),
        ("reward_guidance_scale", None, "reward_guidance_scale None is not a number"),
        ("seed", -1, "seed -1"),
        ("seed", 2**32, "seed 4294967296"),
        ("seed", 1.0, "not an integer"),
        ("id", "../x", "id '../x'"),
        ("id", "a b", "id 'a b'"),
        ("id", "x" * 101, "1 to 100"),
    ],
)
def test_bad_fields_are_named(field, value, message):
    with pytest.raises(MreError, match=message):
        EditRequest(**{"prompt": "make it snow"} | {field: value})


def test_numpys_numbers_are_taken_for_pythons():
    """A row of results could not hold them."""
    array = np.array([[5, 4, 3], [0, 1, 2]], np.float32)
    scales = np.array([7.5, 2], np.float32)
    edits = spread(
        prompt="x",
        seed=[np.int64(3), np.uint8(4)],
        guidance_scale=scales,
        reward_scores=array,
    )
    requests = [EditRequest(**edit) for edit in edits]
    assert [(r.seed, r.guidance_scale, r.reward_scores) for r in requests] == [
        (3, 7.5, (5, 4, 3)),
        (4, 2, (0, 1, 2)),
    ]
    json.dumps([[r.seed, r.guidance_scale, r.reward_scores] for r in requests])
    (one,) = spread(prompt="x", reward_scores=array[0])
    assert EditRequest(**one).reward_scores == (5, 4, 3)
    assert EditRequest(**spread(prompt="x", reward_scores=list(array))[1]).reward_scores
    assert json.dumps(SamplingSettings(np.int32(7)).num_inference_steps) == "7"
    assert parse_size((np.int64(48), np.int64(64))) == (48, 64)
    with pytest.raises(ConfigError, match="seed True is not an integer"):
        EditRequest(prompt="x", seed=np.bool_(True))


def test_a_request_is_made_of_conditions_and_its_own():
    conditions = EditConditions(seed=3, reward_scores=(5, 0, 5))
    request = conditions.request("make it snow", "a", guidance_scale=2)
    assert (request.prompt, request.id, request.seed) == ("make it snow", "a", 3)
    assert (request.guidance_scale, request.reward_scores) == (2, (5.0, 0.0, 5.0))
    assert request.request("add a hat").prompt == "add a hat"
