"""The toy SmartEdit's tokenizer: a word is a piece, any other text is spelled, and prompts fit."""

import pytest

from mre_jax.smartedit.prompt import PromptSizes, PromptWriter
from mre_jax.smartedit.templates import Templates
from mre_jax.toyworld.smartedit.pretrain import TEMPLATES
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.smartedit.sets import texts
from mre_jax.toyworld.smartedit.tokenizer import tokenizer_model

RECIPE = SmartEditRecipe()


@pytest.fixture(scope="module")
def written():
    """Requests and captions of the toy world."""
    return texts(RECIPE.seed)


def test_every_word_of_the_toy_world_is_one_token(tokenizer, written):
    for text in {*written[0], *written[1]}:
        words = text.replace(",", " ,").split()
        assert len(tokenizer.encode(text, start=False)) == len(words), text


def test_a_quoted_request_begins_with_a_word_too(tokenizer, written):
    for text in set(written[0]):
        quotes = 2
        assert len(tokenizer.encode(f'"{text}"', start=False)) == len(text.split()) + quotes, text


def test_an_unknown_word_is_spelled_and_not_lost(tokenizer):
    text = "give the zebra a ü"
    assert tokenizer.decode(tokenizer.encode(text, start=False)) == text


def test_the_same_words_give_the_same_bytes(written):
    pytest.importorskip("sentencepiece")
    some = written[0][:20]
    assert tokenizer_model(some) == tokenizer_model(some[::-1])


def test_every_request_and_caption_fits_the_window_of_training(tokenizer, written):
    templates = Templates.read(TEMPLATES)
    sizes = PromptSizes(RECIPE.text_tokens, patches=16)
    asked = sorted(set(written[0]), key=lambda text: len(text.split()))[-9:]
    for item in map(str, range(8)):  # every template
        prompts = PromptWriter(tokenizer, templates, sizes).edits(
            asked, [item] * len(asked), [0] * len(asked)
        )
        assert not prompts.too_long.any()
    longest = max(written[1], key=len)
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": longest}]
    assert not PromptWriter(tokenizer, templates, sizes).conversations([turns]).too_long.any()
