"""Texts that are too long are told of once, instructions and reward texts apart."""

import numpy as np
import pytest

from mre_jax.training import truncation
from mre_jax.training.truncation import Truncation

LONG = "a b c d e f g h"


class Letters:
    """A tokenizer of one token a letter."""

    length = 12

    def spans(self, texts):
        return [[(n, n + 1) for n, letter in enumerate(text) if letter != " "] for text in texts]

    def counting(self, texts):
        rows = [[1, *map(ord, text.replace(" ", "")), 2] for text in texts]
        cut = sum(len(row) > self.length for row in rows)
        fit = [[*row[: self.length - 1], 2] + [0] * (self.length - len(row)) for row in rows]
        return np.array([row[: self.length] for row in fit], np.int32), cut


def test_instructions_and_perspectives_are_counted_apart(capsys):
    cuts = Truncation(Letters())
    cuts(["short"] * 3 + [LONG * 2])
    cuts.rewards([("a b c", "None", LONG), ("x", "y", "z"), ()])
    cuts.report()
    first, second = capsys.readouterr().err.splitlines()
    assert first == (
        "warning: 1 of 4 instructions (25%) have more than 12 tokens; their ends are cut off"
    )
    assert second.startswith("warning: 2 reward texts, 12 tokens fit, the longest has 19: ")
    assert "following 0.0 % cut, 0.0 % lost; preserving 0.0 % cut" in second
    assert "quality 50.0 % cut, 0.0 % lost" in second
    assert second.endswith("data.reward_cut=share cuts each perspective to its share")
    cuts.report()
    assert capsys.readouterr().err == ""


def test_by_shares_the_last_perspective_reaches_the_encoder(capsys):
    reward = ("a" * 9, "b" * 9, "c" * 9)
    ids = {cut: Truncation(Letters(), reward_cut=cut).rewards([reward]) for cut in ("end", "share")}
    assert ord("c") not in ids["end"]
    letters = "".join(map(chr, ids["share"][0][1:-1]))
    assert letters.startswith("aa;bbb;ccc")


@pytest.mark.parametrize("long", [False, True])
def test_it_is_told_after_a_sample_of_both_and_only_of_what_was_cut(capsys, monkeypatch, long):
    monkeypatch.setattr(truncation, "SAMPLE", 4)
    cuts = Truncation(Letters(), ("quality",))
    for _ in range(3):
        cuts(["short"] * 2)
        cuts.rewards([(LONG * 2 if long else "ok",)] * 2)
    said = capsys.readouterr().err
    assert said.count("warning: 4 reward texts") == long
    assert "quality 100.0 % cut" in said if long else not said
    cuts.report()
    assert capsys.readouterr().err == ""
