"""A SentencePiece model in LLaMA's manner, of a few hundred pieces, trained in milliseconds."""

import functools
import io

import pytest

from mre_jax.smartedit.tokenizer import Tokenizer

_SENTENCES = (
    "A chat between a user and an assistant. The assistant answers questions about pictures.",
    "USER: Please change the picture as the words say. ASSISTANT: Sure, here is the new picture",
    'Make the car red, "paint the house" blue. What is in the picture? A dog and two cats.',
    "The photo shows 3 people; it was taken in 1984 (in the rain)!",
    "Human: Edit this image according to my instruction. GPT: Of course, the edited image is",
)


@functools.cache
def tiny_model() -> bytes:
    """The bytes of a `tokenizer.model`: BPE, bytes for unknown characters, no normalisation."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES * 4),
        model_writer=model,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def tiny_tokenizer(image_tokens: int = 4) -> Tokenizer:
    return Tokenizer(tiny_model(), image_tokens=image_tokens)
