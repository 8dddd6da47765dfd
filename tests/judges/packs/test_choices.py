"""Packs that have two edits compared, and the answers to them."""

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.judges.packs.answer_parser import json_schema, parse_answer
from mre_jax.judges.packs.objects import UnreadableError
from mre_jax.judges.packs.pack import PACKS, load_pack
from mre_jax.judges.question import Question
from tests.judges.questions import EDITED, ORIGINAL, picture

PAIRWISE = ("genarena-ours", "gedit-v2-ours")
OTHER = picture((1, 2, 3))


def pair(pack="genarena-ours", first=EDITED, second=OTHER, perspective="overall"):
    return Question(
        "i", perspective, load_pack(pack), "make it rain", ORIGINAL, first, other=second
    )


def test_which_packs_compare():
    assert [name for name in PACKS if load_pack(name).pairwise] == list(PAIRWISE)


@pytest.mark.parametrize(
    ("said", "score"), [('"first"', 1), ('"Second"', 0), ('"FIRST."', 1), ("'second'", 0)]
)
def test_a_choice_is_what_the_edit_shown_first_gets(said, score):
    answer = load_pack("genarena-ours").prompt("overall").answer
    found = parse_answer(f"{{'better': {said}, 'reasoning': 'so'}}", answer)
    assert (found.score, found.text) == (score, "so")


@pytest.mark.parametrize("said", ['"both"', "1", "null", '"first or second"', '["first"]'])
def test_what_is_no_choice_is_not_guessed(said):
    answer = load_pack("genarena-ours").prompt("overall").answer
    with pytest.raises(UnreadableError, match="none of first, second"):
        parse_answer(f'{{"better": {said}, "reasoning": "so"}}', answer)


def test_servers_are_held_to_the_choices():
    schema = json_schema(load_pack("genarena-ours").prompt("overall").answer, plain=True)
    assert schema["properties"]["better"] == {"type": "string", "enum": ["first", "second"]}


def test_the_order_of_the_edits_is_part_of_the_question():
    there, back = pair(), pair(first=OTHER, second=EDITED)
    assert there.pictures == (ORIGINAL, EDITED, OTHER)
    assert back.pictures == (ORIGINAL, OTHER, EDITED)
    assert there.key != back.key
    quality = pair("gedit-v2-ours", perspective="quality")
    assert quality.pictures == (EDITED, OTHER)


def test_one_edit_is_not_compared_and_two_are_not_scored():
    with pytest.raises(ConfigError, match="has two edits compared"):
        pair(second=None)
    with pytest.raises(ConfigError, match="has one edit scored"):
        pair("paper-evaluation", perspective="quality")


OWN = """
[taste]
pictures = ["original", "first", "second"]
system = ""
user = "A or B? {{instruction}}"
[taste.answer]
scores = ["winner"]
choices = {choices}
"""


def test_a_pack_of_one_s_own_may_let_neither_win(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(OWN.format(choices='["A", "B", "tie"]'))
    answer = load_pack(str(path)).prompt("taste").answer
    scores = [parse_answer(f'{{"winner": "{c}"}}', answer).score for c in ("a", "b", "Tie")]
    assert scores == [1, 0, 0.5]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"choices": '["A", "a"]'}, "choices must be two or three texts that differ"),
        ({"choices": '["A"]'}, "choices must be two or three texts that differ"),
        ({"choices": "[1, 2]"}, "choices must be a list of texts"),
        ({"choices": '["A", "B"]\nlow = 0.5'}, "of a choice want one key in scores"),
        ({"choices": '["A", "B"]\npassed = "p"'}, "of a choice want one key in scores"),
    ],
)
def test_a_choice_that_cannot_be_is_told(tmp_path, changed, message):
    path = tmp_path / "own.toml"
    path.write_text(OWN.format(**changed))
    with pytest.raises(DataError, match=message):
        load_pack(str(path))


def test_pictures_must_fit_and_scores_and_choices_do_not_mix(tmp_path):
    path = tmp_path / "own.toml"
    own = OWN.format(choices='["A", "B"]')
    path.write_text(own.replace('["original", "first", "second"]', '["original", "edited"]'))
    with pytest.raises(DataError, match=r'pictures must be \["original", "first", "second"\] or'):
        load_pack(str(path))
    score = OWN.format(choices="[]\ninteger = true\nlow = 0\nhigh = 5").replace("taste", "other")
    score = score.replace('["original", "first", "second"]', '["edited"]')
    path.write_text(own + score)
    with pytest.raises(DataError, match="some prompts have choices and some numbers"):
        load_pack(str(path))
