"""How many texts of a run are too long for the text encoder, said once and not for each."""

import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from mre_jax.editing.tokens import Tokenizer

SAMPLE = 2000
"""Texts after which the share is told."""


class TextCuts:
    """A tokenizer that counts the texts it cuts.

    Args:
        tokenizer: of the checkpoint.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._texts = self._cut = 0
        self._told = False

    def __call__(self, texts: Sequence[str]) -> Int32[np.ndarray, "b t"]:
        """Token ids of each text, cut to the tokenizer's length."""
        ids, cut = self._tokenizer.counting(texts)
        self._texts += len(texts)
        self._cut += cut
        if self._texts >= SAMPLE:
            self.tell()
        return ids

    def tell(self) -> None:
        """Prints the share so far, if any text was cut; once."""
        if self._cut and not self._told:
            self._told = True
            print(
                f"warning: {self._cut} of {self._texts} texts ({self._cut / self._texts:.0%}) have "
                f"more than {self._tokenizer.length} tokens; their ends are cut off",
                file=sys.stderr,
            )
