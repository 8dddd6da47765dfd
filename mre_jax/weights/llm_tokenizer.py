"""The vocabulary of a language model's tokenizer, read without the library that runs it."""

from collections.abc import Iterator, Mapping

from mre_jax.errors import DataError

LLM_TOKENIZER = "llm_tokenizer/tokenizer.model"
"""Its place in a model folder."""

_FEWEST_ADDED = 4
_REMEDY = "give the tokenizer.model of vicuna v1.1 or LLaMA"


def require_llm_tokenizer(
    files: Mapping[str, bytes], vocabulary: int, origin: str, *, added: int | None = None
) -> int:
    """The pieces of a SmartEdit's tokenizer, to which its language model adds rows.

    Args:
        files: small files by path in a model folder.
        vocabulary: rows of the language model's embedding.
        origin: what errors call the model.
        added: rows that there must be besides the pieces; None is <img>, <im_start>, <im_end> and
            one image token, or more of these.

    Raises:
        DataError: if it is missing, is no SentencePiece model, or belongs to another vocabulary.
    """
    if LLM_TOKENIZER not in files:
        raise DataError(f"{origin} has no {LLM_TOKENIZER}; {_REMEDY}")
    pieces = sum(1 for field in _fields(files[LLM_TOKENIZER], origin) if field == _PIECE)
    left = vocabulary - pieces
    if not pieces or left < _FEWEST_ADDED or left != (left if added is None else added):
        raise DataError(
            f"{origin}: its tokenizer.model has {pieces} pieces and its language model "
            f"{vocabulary} rows, which leaves {left} for the tokens that SmartEdit adds, not "
            f"{f'{_FEWEST_ADDED} or more' if added is None else added}; {_REMEDY}"
        )
    return pieces


def _fields(message: bytes, origin: str) -> Iterator[int]:
    """The numbers of a protocol buffer's fields, whose contents are passed over."""
    position = 0
    try:
        while position < len(message):
            key, position = _varint(message, position)
            if key & 7 == _VARINT:
                _, position = _varint(message, position)
            elif key & 7 == _BYTES:
                size, position = _varint(message, position)
                position += size
            else:
                position += _FIXED[key & 7]
            if position > len(message):
                raise ValueError
            yield key >> 3
    except (IndexError, KeyError, ValueError):
        raise DataError(f"{origin}: its tokenizer.model is damaged; {_REMEDY}") from None


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value, position = value | (byte & 127) << shift, position + 1
        if byte < 128:
            return value, position
        shift += 7


_PIECE = 1
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
