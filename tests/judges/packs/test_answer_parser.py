import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mre_jax.judges.packs.answer_parser import Parsed, json_schema, parse_answer
from mre_jax.judges.packs.objects import RefusedError, UnreadableError
from mre_jax.judges.packs.pack import Answer

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
        '{"score": 4, "score": 4, "bad": "x"}',
        '{"score": 6, "bad": "x"}',
        '{"score": -1, "bad": "x"}',
        '{"score": true, "bad": "x"}',
        '{"score": null, "bad": "x"}',
        '{"score": NaN, "bad": "x"}',
        '{"score": 04, "bad": "x"}',
        '{"score": 1_0, "bad": "x"}',
        '{"score": ٤, "bad": "x"}',
        '{"score": 4, "bad": 5}',
        '{"score": 4, "bad": "\\ud800"}',
        '{"score": 4, "bad": "\\q"}',
        '{"score": 4, "bad": "\\U00110000"}',
        '{"score": 4 "bad": "x"}',
        '{"score": 4, "bad": "x"',
        "{'score': 4, 'bad': 'the cat's ear'}",
        "__import__('os').system('x')",
        "{'score': 2+2, 'bad': ''}",
        '{"score": 4.3, "bad": "x"}',
        '{"score": "4/5", "bad": "x"}',
        '{"score": "4 of 5", "bad": "x"}',
        '{"score": "four", "bad": "x"}',
        '{"score": 1e999, "bad": "x"}',
        '{"score": [4], "bad": "x"}',
        '{"score": 4, "bad": ["x"]}',
        '{"score": 4, "Score": 3, "bad": "x"}',
        '{"score": 4, "bad": "x"} {"score": 3, "bad": "x"}',
        '[{"score": 4, "bad": "x"}, {"score": 3, "bad": "x"}]',
        'Perhaps {"score": 4, "bad": "x"}, or rather {"score": 4, "bad": "y"}.',
        '<think>{"score": 4, "bad": "x"}',
        "<think>hm</think>",
        # A draft within an object, or within half of one, is not the answer.
        "{\"thought\": \"perhaps {'score': 3, 'bad': 'x'}\", \"rating\": 4}",
        '{"thought": "{\'score\': 3, \'bad\': \'x\'}", "score": 4, "bad": "a "b" c"}',
        '{"score": <0 to 5>, "bad": "..."} as in {"score": 4, "bad": "x"}',
        '{"properties": {"score": {"type": "integer"}, "bad": {"type": "string"}}}',
        "{" * 100_000,
        '{"a":' * 20_000,
        "[" * 50_000,
        '{"score": ' + "9" * 50_000 + ', "bad": ""}',
    ],
)
def test_anything_else_is_no_answer(text):
    with pytest.raises(UnreadableError):
        parse_answer(text, ANNOTATION)


ONE = '{"score": 4, "bad": "x"}'


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{ONE}",
        f"Here is my evaluation:\n```json\n{ONE}\n```\nLet me know if you need more.",
        f"```json\n{ONE}\n``` Done.",
        f"```\n{ONE}```",
        f"**Answer:** {ONE}.",
        f"{ONE} {ONE}",
        f"[{ONE}]",
        f'{{"result": {ONE}}}',
        f'{{"name": "verdict", "arguments": {ONE}, "ids": [1, 2.5, null, true]}}',
        json.dumps(ONE),
        f"<think>\nThe second is {{darker}}.\n</think>\n\n{ONE}",
        f'<think>First {{"score": 2, "bad": "y"}}, no.</think>{ONE}',
        f"The snow is there, so I lean to 4.\n</think>\n{ONE}",
        f"\u25c1think\u25b7hm\u25c1/think\u25b7{ONE}",
        f"<|begin_of_box|>{ONE}<|end_of_box|>",
        '{"score": 4.0, "bad": "x"}',
        '{"score": 4e0, "bad": "x"}',
        '{"score": "4", "bad": "x"}',
        '{"score": " 4.0 ", "bad": "x"}',
        '{"Score": 4, "Bad": "x"}',
        '{"score": 4, "bad": "x", "more": 1, "why": {"a": ["b"]}}',
        '{"reasoning": "it is <think> in {here}", "score": 4, "bad": "x"}',
    ],
)
def test_what_people_s_models_write_around_an_answer(text):
    """Each was three paid requests and no score."""
    assert parse_answer(text, ANNOTATION) == Parsed(4, None, "x")


def test_a_text_may_break_its_line_and_may_be_none():
    assert parse_answer('{"score": 4, "bad": "a\nb\tc"}', ANNOTATION).text == "a\nb\tc"
    assert parse_answer('{"score": 5, "bad": null}', ANNOTATION).text == ""


@pytest.mark.parametrize("word", ["true", "True", '"yes"', '"Yes."', '" YES "'])
def test_a_yes_in_other_words(word):
    assert parse_answer(f'{{"following": {word}, "score": "3.5"}}', EVALUATION) == Parsed(
        3.5, True, ""
    )


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I\u2019m sorry, I can\u2019t help with identifying people.",
        "Sorry, I cannot do that.",
        "I am unable to evaluate this image.",
        "As an AI, I have no opinion on it.",
        "<think>A face. Not allowed.</think>\nI can't rate images of people.",
        "\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u8bc4\u4f30\u3002",
    ],
)
def test_a_refusal_in_plain_words_is_told_from_an_answer_that_cannot_be_read(text):
    with pytest.raises(RefusedError):
        parse_answer(text, ANNOTATION)


@pytest.mark.parametrize("text", ["", "The score is 4.", "I see {no} edit, sorry", "4/5"])
def test_other_words_are_no_refusal(text):
    with pytest.raises(UnreadableError) as error:
        parse_answer(text, ANNOTATION)
    assert not isinstance(error.value, RefusedError)


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
    plain = json_schema(ANNOTATION, plain=True)
    assert plain["properties"]["score"] == {"type": "integer"}


LIST = Answer(("score",), False, 0, 10, text="reasoning", length=2)
LINES = Answer(("Compliance", "Detail & Light"), True, 1, 5, text="Brief reasoning", combine="mean",
               form="lines")  # fmt: skip
ANY_LINE = Answer((), True, 1, 5, text="Brief reasoning", combine="mean", form="lines")


def test_a_list_of_scores_as_viescore_asks_for_it():
    assert parse_answer('{"score": [7, 4.5], "reasoning": "x"}', LIST) == Parsed(4.5, None, "x")
    for bad in ("7", "[7]", "[7, 4, 1]", "[7, 11]", '[7, "x"]'):
        with pytest.raises(UnreadableError, match="'score' is"):
            parse_answer(f'{{"score": {bad}, "reasoning": ""}}', LIST)
    schema = json_schema(LIST)["properties"]["score"]
    assert schema == {"type": "array", "items": {"type": "number"}}


@pytest.mark.parametrize(
    "text",
    [
        "Brief reasoning: It: works.\nCompliance: 4\nDetail & Light: 3",
        "\n**Brief reasoning:** It: works.\r\n**Compliance**: 4\r\n- detail & light : 3\n",
        "<think>Compliance: 1\n</think>\nBrief reasoning: It: works.\nCompliance: 4.0\n"
        "Detail & Light: 3\nBye: 5",
        '{"Compliance": 4, "Detail & Light": 3, "Brief reasoning": "It: works."}',
    ],
)
def test_lines_of_scores_as_imgedit_asks_for_them(text):
    assert parse_answer(text, LINES) == Parsed(3.5, None, "It: works.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Compliance: 4", "want the lines Compliance: NUMBER, Detail & Light: NUMBER"),
        ("Compliance: 4\nDetail & Light: 4/5", "'Detail & Light' is '4/5', no whole number"),
        ("Compliance: 4\nDetail & Light: 6", "not in 1 to 5"),
        ("Compliance: 4\nDetail & Light: 3\nCompliance: 5", "a line 'Compliance' twice"),
    ],
)
def test_lines_that_are_not_all_there_are_no_answer(text, message):
    """ImgEdit's script takes the mean of those of the three that it finds."""
    with pytest.raises(UnreadableError, match=message):
        parse_answer(text, LINES)


def test_lines_without_names_are_those_that_end_in_a_number():
    text = "Brief reasoning: 2 dogs.\nScore: 4"
    assert parse_answer(text, ANY_LINE) == Parsed(4, None, "2 dogs.")
    for text in ("Brief reasoning: 2", '{"Brief reasoning": "x"}', "Score: four", ""):
        with pytest.raises(UnreadableError):
            parse_answer(text, ANY_LINE)


def test_of_what_may_be_cut_short_only_a_whole_object_is_read():
    """The last line, or its last digit, may be missing, and a draft may be all there is."""
    for whole in (ONE, f'"{ONE}"', f"```json\n{ONE}\n```"):
        assert parse_answer(whole, ANNOTATION, alone=True).score == 4
    for cut in (f"{ONE} or rather", f"So: {ONE}", f"<think>x</think>{ONE}", ONE[:-1]):
        with pytest.raises(UnreadableError):
            parse_answer(cut, ANNOTATION, alone=True)
    with pytest.raises(UnreadableError):
        parse_answer("Brief reasoning: good\nPrompt Compliance: 4", ANY_LINE, alone=True)
