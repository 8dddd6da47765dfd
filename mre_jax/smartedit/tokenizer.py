"""LLaMA's tokens and the 35 that SmartEdit adds, as the official code reads a text.

The rule is that of the slow tokenizer of transformers 4.28.1, whose ids the released weights were
trained on; later versions read the same text otherwise:

- the text is cut at added tokens and at `<s>`, `</s>` and `<unk>`, leftmost first;
- white space on both sides of an added token is dropped, that beside the other three stays;
- each remaining piece is encoded by SentencePiece by itself, so each starts as a text does, with
  the mark of a space; empty pieces give nothing.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.extra import of_extra
from mre_jax.io.files import refuse_lfs_pointer

IMAGE_TOKENS = 32
"""Image tokens of the released weights."""


class Tokenizer:
    """Texts to ids of a SentencePiece model with SmartEdit's tokens behind them, and back.

    Args:
        model: the bytes of a `tokenizer.model`.
        image_tokens: how many image tokens are added; 32 for the released weights.
        origin: how errors call the model.

    Attributes:
        base_size: ids of the SentencePiece model, 32000 for LLaMA; the first added token's id.
        size: all ids.
        pad_id: id of padding, which is that of `<unk>`.
        bos_id: id of `<s>`.
        eos_id: id of `</s>`.
        im_start_id: id of `<im_start>`.
        im_end_id: id of `<im_end>`.
        image_ids: ids of `<img_0>`, `<img_1>`, ...; the first also holds a picture's place.

    Raises:
        DataError: if the bytes are no SentencePiece model, or one without what LLaMA's has.
        ConfigError: if sentencepiece is not installed.
    """

    def __init__(
        self, model: bytes, *, image_tokens: int = IMAGE_TOKENS, origin: str = "tokenizer.model"
    ):
        if image_tokens < 1:
            raise ConfigError(f"image_tokens {image_tokens} must be at least 1")
        self._model = _opened(model, origin)
        self.base_size = int(self._model.get_piece_size())
        self.pad_id = self._id_of("unk", origin)
        self.bos_id = self._id_of("bos", origin)
        self.eos_id = self._id_of("eos", origin)
        images = [f"<img_{number}>" for number in range(image_tokens)]
        added = ["<img>", "<im_start>", "<im_end>", *images]
        self._added = {token: self.base_size + number for number, token in enumerate(added)}
        self.im_start_id, self.im_end_id = self._added["<im_start>"], self._added["<im_end>"]
        self.image_ids = range(self._added[images[0]], self._added[images[-1]] + 1)
        self.size = self.base_size + len(added)
        self._special = {
            str(self._model.id_to_piece(number)): number
            for number in (self.pad_id, self.bos_id, self.eos_id)
        }
        self._names = {number: token for token, number in (self._added | self._special).items()}
        self._cut = re.compile("|".join(map(re.escape, self._added | self._special)))
        for token in self._added:
            if self._model.piece_to_id(token) != self.pad_id:
                raise DataError(
                    f"{origin} has {token} already, which SmartEdit adds; "
                    "give the tokenizer.model of vicuna v1.1 or LLaMA"
                )

    @classmethod
    def read(cls, path: epath.PathLike, *, image_tokens: int = IMAGE_TOKENS) -> "Tokenizer":
        """The tokenizer of a `tokenizer.model` file.

        Raises:
            DataError: if it is missing, or as the class says.
        """
        path = epath.Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing; give the tokenizer.model of vicuna v1.1 or LLaMA")
        refuse_lfs_pointer(path)
        return cls(path.read_bytes(), image_tokens=image_tokens, origin=str(path))

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises ConfigError unless a network of `vocab_size` ids has just these."""
        if vocab_size != self.size:
            raise ConfigError(
                f"vocab_size {vocab_size} is not the tokenizer's {self.size} "
                f"({self.base_size} and {len(self._added)} that SmartEdit adds); give the "
                "tokenizer.model that belongs to the network"
            )

    def encode(self, text: str, *, start: bool = True) -> list[int]:
        """The ids of a text.

        Args:
            text: anything; names of tokens in it become those tokens.
            start: put `<s>` in front.

        Raises:
            DataError: for a text that is not Unicode.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{text!r} is not Unicode; replace its lone surrogates") from None
        ids = [self.bos_id] if start else []
        for piece in self._pieces(text):
            if piece in self._added or piece in self._special:
                ids.append((self._added | self._special)[piece])
            elif piece:
                ids.extend(self._model.encode(piece, out_type=int))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """A text that reads like these ids, for people; its white space is not the origin's."""
        words: list[str] = []
        plain: list[int] = []
        for number in [*ids, None]:
            if number is not None and number not in self._names:
                plain.append(int(number))
                continue
            if plain:
                words.append(str(self._model.decode(plain)).strip())
                plain = []
            if number is not None:
                words.append(self._names[number])
        return " ".join(words)

    def token_in(self, text: str) -> str | None:
        """The first name of a token in `text`, which would be read as that token."""
        found = self._cut.search(text)
        return found[0] if found else None

    def _pieces(self, text: str) -> Iterator[str]:
        """Names of tokens and what stands between them, stripped where an added token is near."""
        cuts = [*self._cut.finditer(text), None]
        start, after_added = 0, False
        for cut in cuts:
            piece = text[start : cut.start() if cut else len(text)]
            piece = piece.lstrip() if after_added else piece
            after_added = cut is not None and cut[0] in self._added
            yield piece.rstrip() if after_added else piece
            if cut:
                yield cut[0]
                start = cut.end()

    def _id_of(self, name: str, origin: str) -> int:
        number = int(getattr(self._model, f"{name}_id")())
        if number < 0:
            raise DataError(
                f"{origin} has no {name} token; give the tokenizer.model of vicuna v1.1 or LLaMA"
            )
        return number


def _opened(model: bytes, origin: str) -> Any:
    sentencepiece = of_extra("sentencepiece", "smartedit")
    try:
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(model)
        processor.get_piece_size()
    except Exception as error:  # the library raises RuntimeError and others for damaged bytes
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{origin} is no SentencePiece model ({reason})") from None
    return processor
