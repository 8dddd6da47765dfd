import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mre_jax.judges.answer_parser import Parsed, UnreadableError, json_schema, parse_answer
from mre_jax.judges.prompt_pack import Answer

ANNOTATION = Answer(("score",), True, 0, 5, text="bad")
EVALUATION = Answer(("score",), False, 0, 5, passed="following")
VIE = Answer(("success", "overediting"), True, 0, 10, text="reasoning")
MEAN = Answer(("a", "b"), True, 1, 5, combine="mean")

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@given(st.integers(0, 5), texts, st.booleans(), st.sampled_from(["", "```json\n{}\n```", '"{}"']))
def test_what_the_schema_and_python_write_is_read_back(score, text, python, wrap):
    values = {"score": score, "bad": text}
    answer = repr(values) if python else json.dumps(values)
    wrapped = wrap.replace("{}", answer) if wrap else answer
    assert parse_answer(wrapped, ANNOTATION) == Parsed(score, None, text)


@given(st.integers(0, 500), st.sampled_from(["yes", "no", "Yes", "NO"]), st.sampled_from("'\""))
def test_decimals_and_both_quotes(hundredths, word, quote):
    answer = f"{{{quote}following{quote}: {quote}{word}{quote}, 'score': {hundredths / 100}}}"
    parsed = parse_answer(answer, EVALUATION)
    assert parsed.score == hundredths / 100
    assert parsed.passed is (word.lower() == "yes")


def test_a_whole_score_is_an_answer_to_a_prompt_for_decimals():
    """The released evaluation's pattern wants a decimal point and loses these."""
    assert parse_answer("{'following': 'yes', 'score': 4}", EVALUATION).score == 4


def test_several_scores_combine():
    answer = '{"success": 7, "overediting": 3, "reasoning": "x"}'
    assert parse_answer(answer, VIE).score == 3
    assert parse_answer('{"a": 2, "b": 5}', MEAN).score == 3.5


@given(st.text() | st.text(string.printable), st.sampled_from([ANNOTATION, EVALUATION, VIE]))
@example('{"score": 4, "bad": "x"} and so on', ANNOTATION)
@example("I'm sorry, I cannot help with that.", ANNOTATION)
def test_any_text_is_read_or_refused(text, answer):
    try:
        parsed = parse_answer(text, answer)
    except UnreadableError:
        return
    assert answer.low <= parsed.score <= answer.high


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "[4]",
        "{}",
        '{"score": 4}',
        '{"score": 4, "bad": "x", "more": 1}',
        '{"score": 4, "score": 4, "bad": "x"}',
        '{"score": 6, "bad": "x"}',
        '{"score": -1, "bad": "x"}',
        '{"score": 4.0, "bad": "x"}',
        '{"score": "4", "bad": "x"}',
        '{"score": true, "bad": "x"}',
        '{"score": null, "bad": "x"}',
        '{"score": NaN, "bad": "x"}',
        '{"score": 4e0, "bad": "x"}',
        '{"score": 04, "bad": "x"}',
        '{"score": 1_0, "bad": "x"}',
        '{"score": ٤, "bad": "x"}',
        '{"score": 4, "bad": 5}',
        '{"score": 4, "bad": "x"} {"score": 4, "bad": "x"}',
        'Here you go: {"score": 4, "bad": "x"}',
        '{"score": 4, "bad": "a\nb"}',
        '{"score": 4, "bad": "\\ud800"}',
        '{"score": 4, "bad": "\\q"}',
        '{"score": 4, "bad": "\\U00110000"}',
        '{"score": 4 "bad": "x"}',
        '{"score": 4, "bad": "x"',
        "{'score': 4, 'bad': 'the cat's ear'}",
        "__import__('os').system('x')",
        "{'score': 2+2, 'bad': ''}",
        "{" * 100_000,
        '{"score": ' + "9" * 50_000 + ', "bad": ""}',
    ],
)
def test_anything_else_is_no_answer(text):
    with pytest.raises(UnreadableError):
        parse_answer(text, ANNOTATION)


@pytest.mark.parametrize(
    "text", ["{'following': 'maybe', 'score': 4}", '{"following": 1, "score": 4}']
)
def test_yes_and_no_only(text):
    with pytest.raises(UnreadableError):
        parse_answer(text, EVALUATION)


def test_the_schema_asks_for_what_is_read():
    schema = json_schema(ANNOTATION)
    assert schema["properties"]["score"]["enum"] == [0, 1, 2, 3, 4, 5]
    assert schema["required"] == ["score", "bad"]
    assert schema["additionalProperties"] is False
    assert json_schema(EVALUATION)["properties"]["following"]["enum"] == ["yes", "no"]
