"""A request that cannot be carried out is refused in one line when it is made."""

import pytest
from PIL import Image

from mre_jax.editing.request import EditRequest
from mre_jax.errors import ConfigError, MreError

IMAGE = Image.new("RGB", (8, 8))


def test_scores_are_taken_as_floats():
    request = EditRequest(IMAGE, "make it snow", reward_scores=[5, 4.5, 0])
    assert request.reward_scores == (5.0, 4.5, 0.0)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((5, 5), "has 2 numbers; want 3"),
        ((5, 5, 5, 5), "has 4 numbers"),
        ((5, 5, 6), "6 is not in 0 to 5"),
        ((5, -1, 5), "-1 is not in 0 to 5"),
        ((5, float("nan"), 5), "nan is not in 0 to 5"),
        ((5, "5", 5), "'5' is not a number"),
        ((5, True, 5), "True is not a number"),
        ("5,5,5", "want three numbers"),
        (5, "want three numbers"),
    ],
)
def test_bad_scores_are_named(scores, message):
    with pytest.raises(ConfigError, match=message):
        EditRequest(IMAGE, "make it snow", reward_scores=scores)


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
        EditRequest(**{"image": IMAGE, "prompt": "make it snow"} | {field: value})
