"""A SentencePiece model in LLaMA's manner, in which every word of the toy world is one piece."""

import io
import re
from collections.abc import Iterable
from typing import Any

from mre_jax.io.extra import of_extra

_WORD = re.compile(r"\w+|[^\w\s]")
_MOST = 32_000


def tokenizer_model(texts: Iterable[str]) -> bytes:
    """The bytes of a `tokenizer.model`, a function of the words alone.

    Other characters are spelled in bytes, as LLaMA does, so that no text is lost.

    Args:
        texts: whose words become pieces, and whose first words do so within quotes, too.

    Raises:
        ConfigError: if sentencepiece is not installed.

    Example:
        >>> from mre_jax.smartedit.tokenizer import Tokenizer
        >>> tokenizer = Tokenizer(tokenizer_model(["make the star blue"]))
        >>> len(tokenizer.encode("blue star", start=False))
        2
    """
    sentencepiece: Any = of_extra("sentencepiece", "smartedit")
    found = [_WORD.findall(text) for text in texts]
    words = sorted({word for text in found for word in text})
    # A word is another piece where no space precedes it, and prompts quote what they ask for.
    quoted = sorted({f'"{text[0]}"' for text in found if text})
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*words, *quoted]),
        model_writer=model,
        # More than there are pairs to merge: it ends when every word is whole.
        vocab_size=_MOST,
        hard_vocab_limit=False,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
