"""Prompts and reward texts as CLIP token ids, with a warning where one was truncated."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mre_jax.errors import DataError
from mre_jax.models.clip_text import CLIPTextConfig
from mre_jax.weights.surroundings import with_window


class Tokenizer:
    """A model's CLIP tokenizer that never truncates a text in silence.

    Args:
        tokenizer: a tokenizer of transformers.
        encoder: configuration of the text encoder that reads the tokens.

    Attributes:
        length: tokens of every row, 77 for CLIP, start and end included.

    Raises:
        DataError: if the tokenizer makes tokens or rows that the encoder cannot read.

    Example:
        >>> from mre_jax.weights.opening import model_at
        >>> with model_at(TOY) as model:
        ...     tokenizer = model.tokenizer()
        >>> ids = tokenizer(["make the sky red", "None; None; None"])
        >>> ids.shape, str(ids.dtype)
        ((2, 36), 'int32')
    """

    def __init__(self, tokenizer: Any, encoder: CLIPTextConfig):
        self._tokenizer = tokenizer
        self.length = int(tokenizer.model_max_length)
        self._check(encoder)

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], encoder: CLIPTextConfig) -> "Tokenizer":
        """Makes the tokenizer of a model folder.

        Args:
            files: the folder's small files by path; those under `tokenizer/` are used. Where they
                state no length, the encoder's is taken.
            encoder: configuration of the text encoder that reads the tokens.

        Raises:
            DataError: if they are missing, damaged, or do not fit the encoder.
        """
        from transformers import CLIPTokenizer  # seconds to import: only where text is read

        names = {name.removeprefix(_FOLDER) for name in filter(is_tokenizer_file, files)}
        # Without its files transformers makes an empty vocabulary instead of failing.
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
            raise DataError(f"the model has no {_FOLDER}vocab.json and merges.txt; add a CLIP one")
        files, _ = with_window(files, encoder.max_position_embeddings)
        with tempfile.TemporaryDirectory(prefix="mre-tokenizer-") as folder:
            for name in filter(is_tokenizer_file, files):
                Path(folder, name.removeprefix(_FOLDER)).write_bytes(files[name])
            try:
                tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            except Exception as error:  # the library raises whatever its parser does
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise DataError(f"the model's {_FOLDER} is no CLIP tokenizer ({reason})") from None
        return cls(tokenizer, encoder)

    def __call__(self, texts: Sequence[str], what: str = "prompt") -> Int[np.ndarray, "b t"]:
        """Token ids of each text, padded to `length`; a longer text is truncated with a warning.

        Args:
            texts: any number of them.
            what: how the warning calls them.
        """
        rows = self._rows(texts)
        for row, text in zip(rows, texts, strict=True):
            if len(row) > self.length:
                lost = self._tokenizer.decode(row[self.length - 1 : -1]).strip()
                warnings.warn(
                    f"{what} {_shorten(text)!r} has {len(row)} tokens, {self.length} fit: "
                    f"cut off {_shorten(lost)!r}",
                    stacklevel=2,
                )
        return self._fit(rows)

    def counting(self, texts: Sequence[str]) -> tuple[Int[np.ndarray, "b t"], int]:
        """Token ids as by a call, and how many texts were truncated, in place of warnings."""
        rows = self._rows(texts)
        return self._fit(rows), sum(len(row) > self.length for row in rows)

    def spans(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Of each token of each text, its first character and the one behind its last."""
        plain = {"add_special_tokens": False, "verbose": False, "return_offsets_mapping": True}
        return self._tokenizer(list(texts), **plain)["offset_mapping"]

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        padded = {"padding": "max_length", "max_length": self.length, "truncation": False}
        return self._tokenizer(list(texts), **padded, verbose=False)["input_ids"]

    def _check(self, encoder: CLIPTextConfig) -> None:
        known, longest = encoder.vocab_size, encoder.max_position_embeddings
        ids = self._tokenizer.get_vocab()
        unknown = sorted((id_, token) for token, id_ in ids.items() if id_ >= known)
        if unknown:
            named = ", ".join(f"{token!r} ({id_})" for id_, token in unknown[:3])
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise DataError(
                f"the tokenizer has tokens beyond the text encoder's table of {known}, "
                f"{named}{more}: take the encoder that was trained with them, its table resized, "
                "or a tokenizer without them"
            )
        if self.length > longest:
            raise DataError(
                f"the tokenizer makes texts of {self.length} tokens, and the text encoder reads "
                f"{longest}: set model_max_length in tokenizer_config.json to {longest}"
            )

    def _fit(self, rows: list[list[int]]) -> Int[np.ndarray, "b t"]:
        """Truncated to `length`, with the end token last."""
        return np.array([[*row[: self.length - 1], row[-1]] for row in rows], np.int32)


def is_tokenizer_file(name: str) -> bool:
    """Whether a file of a model folder, by its path there, is of the tokenizer."""
    return name.startswith(_FOLDER)


_FOLDER = "tokenizer/"


def _shorten(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
