"""The reward text a model reads, and what of it is reported as cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.errors import ConfigError
from mre_jax.reward.text import (
    asked_text,
    join_rewards,
    measure_truncation,
    reward_parts,
    reward_text,
)

TEXTS = ("There are no noticeable flaws.", "The sky is blurred.", "")


def tokens(text: str) -> list[str]:
    """CLIP's way to split: runs of letters or of punctuation, which may join across parts."""
    return ["<start>", *re.findall(r"\w+|[^\w\s]+", text), "<end>"]


def count(texts):
    return [len(tokens(text)) for text in texts]


class Words:
    """A window that splits as `tokens` does."""

    def __init__(self, length):
        self.length = length

    def spans(self, texts):
        return [[m.span() for m in re.finditer(r"\w+|[^\w\s]+", text)] for text in texts]


LONG = ("one two three four five six", "None", "the picture is blurred everywhere, and noisy")


def test_the_released_code_joins_whatever_fits():
    assert join_rewards([LONG, ()], Words(5)) == ["; ".join(LONG), ""]


def test_by_shares_no_perspective_is_lost():
    window = Words(15)
    (text,) = join_rewards([LONG], window, "share")
    # 15 without start, end and two separators are 11; "None" leaves 10 to the others.
    assert text == "one two three four five; None; the picture is blurred everywhere"
    assert count([text]) == [15]
    assert join_rewards([LONG, ()], Words(40), "share") == ["; ".join(LONG), ""]


@given(
    parts=st.lists(st.text("ab ,;é漢", max_size=30), min_size=1, max_size=3),
    length=st.integers(7, 30),
)
def test_by_shares_every_reward_text_fits_and_keeps_the_begin_of_each_part(parts, length):
    (text,) = join_rewards([tuple(parts)], Words(length), "share")
    assert count([text])[0] <= max(length, 0)
    if text != "; ".join(parts):
        assert count(["; ".join(parts)])[0] > length
        fair = (length - 2 - (len(parts) - 1)) // len(parts)
        kept = text
        for part in parts:
            begin = part[: len(part) if count([part])[0] - 2 <= fair else 0]
            assert begin in kept


def test_a_text_without_spaces_is_cut_within():
    (text,) = join_rewards([("ab,cd,ef,gh",)], Words(5), "share")
    assert text == "ab,cd"


def test_top_scores_and_empty_texts_are_none():
    assert reward_text(TEXTS, (5, 3, 2)) == "None; The sky is blurred.; None"
    assert reward_text(TEXTS, (4, 5.0, 2)) == "There are no noticeable flaws.; None; None"
    assert reward_text((" none. ", "NONE", "  ")) == "None; None; None"


def test_without_the_switch_texts_stay_as_the_annotator_wrote_them():
    expected = "There are no noticeable flaws.; The sky is blurred.; "
    assert reward_text(TEXTS, (5, 5, 5), none_for_top=False) == expected


def test_what_is_asked_for_names_the_perspectives_that_were_trained():
    words = {"following": {"3": "Half done."}, "quality": {"0": "Noise.", "4.5": "Some noise."}}
    assert asked_text() == "None; None; None"
    assert asked_text(["quality"]) == "None"
    assert asked_text(scores=(3, 3, 4.5), words=words) == "Half done.; None; Some noise."
    assert asked_text(["quality"], (3, 3, 0), words) == "Noise."


def test_single_perspectives_for_the_ablation():
    assert reward_text(TEXTS, (1, 1, 1), perspectives=["preserving"]) == "The sky is blurred."
    for wrong in (["style"], []):
        with pytest.raises(ConfigError, match="want some of following, preserving, quality"):
            reward_text(TEXTS, perspectives=wrong)


def test_truncation_is_reported_where_it_happens():
    rewards = [("a b", "c", "d e f"), ("a", "b", "c")]  # 8 + 2 and 5 + 2 tokens
    report = measure_truncation(rewards, count, limit=8)
    assert (report.cut, report.lost) == ((0, 0, 1), (0, 0, 0))
    assert (report.texts, report.longest) == (2, 10)
    assert measure_truncation(rewards, count, limit=7).lost == (0, 0, 1)
    assert "2 reward texts, 8 tokens fit, the longest has 10: following 0.0 % cut" in str(report)
    assert "quality 50.0 % cut, 0.0 % lost" in str(report)


words = st.lists(st.sampled_from(["sky", "blurred", "the", "edit."]), min_size=1, max_size=6)
parts_strategy = st.tuples(*[words.map(" ".join)] * 3)


@given(rewards=st.lists(parts_strategy, max_size=5), limit=st.integers(3, 20))
def test_truncation_counts_what_the_window_misses(rewards, limit):
    cut, lost = [0, 0, 0], [0, 0, 0]
    for parts in rewards:
        # Words of a part bear its number, so that what is left tells whose it was.
        marked = "; ".join(
            re.sub(r"\w+", lambda w, i=i: f"{w[0]}{i}", part) for i, part in enumerate(parts)
        )
        kept = tokens(marked)[: limit - 1]
        for number, part in enumerate(parts):
            own = [t for t in tokens(part)[1:-1] if t.isalpha()]
            left = [t for t in kept if t.endswith(str(number))]
            lost[number] += not left
            # A full stop that ends a part is one token with the ";" behind it.
            stop = part.endswith(".") and len(left) == len(own)
            stops = sum(t[0] == "." for t in kept)
            inner = sum(p.count(".") for p in parts[:number])
            full = len(left) == len(own) and (not stop or stops >= inner + part.count("."))
            cut[number] += not full
    report = measure_truncation(iter(rewards), count, limit=limit)
    assert (report.cut, report.lost) == (tuple(cut), tuple(lost))


def test_parts_feed_the_report():
    parts = [reward_parts(TEXTS, (5, 3, 2)) for _ in range(600)]
    assert measure_truncation(parts, count, limit=6).cut == (0, 600, 600)
