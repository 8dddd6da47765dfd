"""Prompts and reward texts as CLIP token ids, with a word about what did not fit."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from mre_jax.errors import DataError


class Tokenizer:
    """A checkpoint's CLIP tokenizer that never cuts a text in silence.

    Attributes:
        length: tokens of every row, 77 for CLIP, start and end included.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self.length: int = tokenizer.model_max_length

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "Tokenizer":
        """Makes the tokenizer of a model folder.

        Args:
            files: the folder's small files by path; those under `tokenizer/` are used.

        Raises:
            DataError: if they are missing or damaged.
        """
        from transformers import CLIPTokenizer  # seconds to import: only where text is read

        names = {name.removeprefix(_FOLDER) for name in files if name.startswith(_FOLDER)}
        # Without its files transformers makes an empty vocabulary instead of failing.
        if "tokenizer.json" not in names and not {"vocab.json", "merges.txt"} <= names:
            raise DataError(f"the model has no {_FOLDER}vocab.json and merges.txt; add a CLIP one")
        with tempfile.TemporaryDirectory(prefix="mre-tokenizer-") as folder:
            for name in names:
                Path(folder, name).write_bytes(files[_FOLDER + name])
            try:
                return cls(CLIPTokenizer.from_pretrained(folder, local_files_only=True))
            except Exception as error:  # the library raises whatever its parser does
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise DataError(f"the model's {_FOLDER} is no CLIP tokenizer ({reason})") from None

    def __call__(self, texts: Sequence[str], what: str = "prompt") -> Int[np.ndarray, "b t"]:
        """Token ids of each text, padded to `length`; a longer text is cut with a warning.

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
        """Token ids as by a call, and how many texts were cut, in place of a warning each."""
        rows = self._rows(texts)
        return self._fit(rows), sum(len(row) > self.length for row in rows)

    def _rows(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), padding="max_length", verbose=False)["input_ids"]

    def _fit(self, rows: list[list[int]]) -> Int[np.ndarray, "b t"]:
        """Cut to `length`, with the end token last."""
        return np.array([[*row[: self.length - 1], row[-1]] for row in rows], np.int32)


_FOLDER = "tokenizer/"


def _shorten(text: str, length: int = 80) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
