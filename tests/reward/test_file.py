"""RewardEdit files: read strictly, written so that they read back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.errors import DataError
from mre_jax.reward.file import Reward, read_rewards, write_rewards

ENTRY = [
    {"Score": 5, "Negative Prompt": "None"},
    {"Score": 3, "Negative Prompt": "The sky is blurred."},
    {"Score": 0, "Negative Prompt": ""},
]


def write(tmp_path, content):
    path = tmp_path / "RewardEdit_20K.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def changed(perspective: int, **fields):
    return [e | fields if i == perspective else e for i, e in enumerate(ENTRY)]


def test_the_public_form_is_read_in_its_order(tmp_path):
    rewards = read_rewards(write(tmp_path, {"0000012": ENTRY, "0000003": ENTRY}))
    assert list(rewards) == ["0000012", "0000003"]
    assert rewards["0000003"] == Reward((5, 3, 0), ("None", "The sky is blurred.", ""))


scores = st.integers(0, 5) | st.floats(0, 5)
rewards_strategy = st.dictionaries(
    st.text(max_size=8),
    st.builds(Reward, st.tuples(scores, scores, scores), st.tuples(*[st.text(max_size=20)] * 3)),
    min_size=1,
    max_size=4,
)


@given(rewards=rewards_strategy)
def test_what_is_written_reads_back(rewards, tmp_path_factory):
    path = tmp_path_factory.mktemp("rewards") / "r.json"
    write_rewards(path, rewards)
    read = read_rewards(path)
    assert read == rewards
    assert list(read) == list(rewards)


def test_a_reward_that_would_not_read_back_is_not_written(tmp_path):
    with pytest.raises(DataError, match=r"key 'a': following: score 7"):
        write_rewards(tmp_path / "r.json", {"a": Reward((7, 5, 5), ("", "", ""))})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"RewardEdit_20K\.json: not JSON"),
        ([ENTRY], "want an object of rewards by key, got list"),
        ({}, "no rewards in it"),
        ('{"a": [], "a": []}', "key 'a' stands in it twice"),
        ({"a": ENTRY[:2]}, r"key 'a': judgements .*: want 3 of them"),
        ({"a": {"Score": 5}}, "key 'a': judgements .*: want 3 of them"),
        ({"a": [5, 4, 3]}, "key 'a': following: no 'Score' in it"),
        ({"a": [*ENTRY[:2], {"Score": 3}]}, "key 'a': quality: no 'Negative Prompt' in it"),
        ({"a": changed(1, Score=6)}, "key 'a': preserving: score 6 is not in 0 to 5"),
        ({"a": changed(1, Score=-0.5)}, "key 'a': preserving: score -0.5 is not in"),
        ({"a": changed(2, Score="4")}, "key 'a': quality: score '4' is not a number"),
        ({"a": changed(0, Score=None)}, "key 'a': following: score None is not a number"),
        ('{"a": [{"Score": NaN, "Negative Prompt": ""}]}', "want 3 of them"),
        ({"a": changed(1, **{"Negative Prompt": None})}, "key 'a': preserving: None is not a text"),
    ],
)
def test_another_shape_is_named_by_key_and_perspective(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_rewards(write(tmp_path, content))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_rewards(tmp_path / "none.json")
    with pytest.raises(DataError, match="a folder"):
        read_rewards(tmp_path)
