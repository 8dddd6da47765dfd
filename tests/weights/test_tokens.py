"""A tokenizer and the encoder that reads it: what does not fit is said when they are loaded."""

import json

import pytest

from mre_jax.errors import DataError
from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.toyworld.pretraining.tokenizer import tokenizer_files
from mre_jax.weights.tokens import Tokenizer

WINDOW = 12
CONFIG = "tokenizer/tokenizer_config.json"


@pytest.fixture(scope="module")
def files():
    return tokenizer_files(("make the red star blue",), WINDOW)


@pytest.fixture(scope="module")
def vocabulary(files):
    return len(json.loads(files["tokenizer/vocab.json"]))


def encoder(vocabulary: int, window: int = WINDOW) -> CLIPTextConfig:
    return CLIPTextConfig(vocab_size=vocabulary, max_position_embeddings=window)


def with_added_token(files, vocabulary):
    """As tokenizer.add_tokens and save_pretrained leave it, the encoder not resized."""
    added = {
        str(vocabulary): {
            "content": "<my-style>",
            "lstrip": False,
            "normalized": True,
            "rstrip": False,
            "single_word": False,
            "special": False,
        }
    }
    config = json.loads(files[CONFIG]) | {"added_tokens_decoder": added}
    return files | {
        CONFIG: json.dumps(config).encode(),
        "tokenizer/added_tokens.json": json.dumps({"<my-style>": vocabulary}).encode(),
    }


def test_a_token_that_the_encoder_lacks_is_refused_by_name(files, vocabulary):
    """Its state would be NaN, and the edit black."""
    message = rf"beyond the text encoder's table of {vocabulary}, '<my-style>' \({vocabulary}\): "
    with pytest.raises(DataError, match=message):
        Tokenizer.from_files(with_added_token(files, vocabulary), encoder(vocabulary))
    resized = Tokenizer.from_files(with_added_token(files, vocabulary), encoder(vocabulary + 1))
    assert vocabulary in resized(["a <my-style> circle"])[0]


def test_the_tokenizer_of_a_larger_model_is_refused(files, vocabulary):
    with pytest.raises(DataError, match="and 6 more: take the encoder"):
        Tokenizer.from_files(files, encoder(vocabulary - 9))


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"model_max_length": "many"}', b"\xff"])
def test_what_a_tokenizer_says_of_itself_is_an_object(files, vocabulary, text):
    """It was a traceback of the JSON parser."""
    with pytest.raises(DataError, match=r"tokenizer_config\.json is no .*object"):
        Tokenizer.from_files(files | {CONFIG: text}, encoder(vocabulary))


@pytest.mark.parametrize("stated", [None, int(1e30), "null"])
def test_a_tokenizer_without_a_window_takes_the_encoders(files, vocabulary, stated):
    """vocab.json and merges.txt alone, as CLIP's own folders had them."""
    files = dict(files)
    if stated is None:
        del files[CONFIG]
    else:
        config = json.loads(files[CONFIG]) | {
            "model_max_length": None if stated == "null" else stated
        }
        files[CONFIG] = json.dumps(config).encode()
    tokenizer = Tokenizer.from_files(files, encoder(vocabulary))
    assert tokenizer(["make", "make the red star blue"]).shape == (2, WINDOW)


def test_a_window_beyond_the_encoders_is_refused_and_a_shorter_one_kept(files, vocabulary):
    with pytest.raises(DataError, match="texts of 12 tokens, and the text encoder reads 8"):
        Tokenizer.from_files(files, encoder(vocabulary, window=8))
    assert Tokenizer.from_files(files, encoder(vocabulary, window=16)).length == WINDOW
