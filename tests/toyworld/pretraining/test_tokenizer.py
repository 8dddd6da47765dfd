"""The toy editor's tokenizer: a word is a token, and any other text still has one meaning."""

import pytest

from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.toyworld.pretraining.tokenizer import tokenizer_files
from mre_jax.weights.tokens import Tokenizer

TEXTS = ("make the red star blue", "The edit is slightly incomplete.; None")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_files(tokenizer_files(TEXTS, 12), CLIPTextConfig())


@pytest.mark.parametrize(("text", "words"), [("make the star red", 4), ("None; None", 3)])
def test_known_words_take_one_token_each(tokenizer, text, words):
    row = tokenizer([text])[0]
    end = row[-1]
    assert list(row).index(end) == 1 + words


def test_an_unknown_word_is_spelled_and_not_lost(tokenizer):
    known, unknown = tokenizer(["make red", "make reds"])
    assert list(known) != list(unknown)


def test_the_window_is_as_long_as_asked_for(tokenizer):
    assert tokenizer(["make"]).shape == (1, 12)
