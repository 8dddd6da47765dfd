"""The default recipe's tokenizer, made once."""

import pytest

from mre_jax.smartedit.tokenizer import Tokenizer
from mre_jax.toyworld.smartedit.pretrain import tokenizer_texts
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe
from mre_jax.toyworld.smartedit.tokenizer import tokenizer_model


@pytest.fixture(scope="session")
def model():
    """The bytes of its `tokenizer.model`."""
    pytest.importorskip("sentencepiece")
    return tokenizer_model(tokenizer_texts(SmartEditRecipe.seed))


@pytest.fixture(scope="session")
def tokenizer(model):
    return Tokenizer(model)
