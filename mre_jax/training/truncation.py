"""How many texts of a run are too long for what reads them, said once and not for each."""

import sys
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import Parts, join_rewards, measure_truncation
from mre_jax.smartedit.prompt import Prompts
from mre_jax.weights.tokens import Tokenizer

SAMPLE = 1000
"""Instructions, and reward texts, after which the shares are reported."""


class Truncation:
    """A tokenizer that counts the texts it truncates, instructions and reward texts apart.

    Args:
        tokenizer: the checkpoint's.
        perspectives: perspectives whose texts are read.
        reward_cut: truncation of reward texts; see `join_rewards`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        perspectives: Sequence[str] = PERSPECTIVES,
        reward_cut: str = "end",
    ):
        self._tokenizer = tokenizer
        self._prompts = self._left_out = 0
        self._perspectives, self._reward_cut = tuple(perspectives), reward_cut
        self._texts = self._truncated = 0
        self._rewards: list[Parts] = []
        self._reported = False

    def __call__(self, texts: Sequence[str]) -> Int32[np.ndarray, "b t"]:
        """Token ids of instructions, truncated to the tokenizer's length."""
        ids, truncated = self._tokenizer.counting(texts)
        self._texts += len(texts)
        self._truncated += truncated
        return ids

    def counted(self, prompts: Prompts) -> Prompts:
        """The same prompts; those that leave their text out are counted."""
        self._prompts += len(prompts.too_long)
        self._left_out += int(prompts.too_long.sum())
        return prompts

    def rewards(self, rewards: Sequence[Parts]) -> Int32[np.ndarray, "b t"]:
        """Token ids of reward texts, of each its parts; brought into the tokenizer's length."""
        texts = join_rewards(rewards, self._tokenizer, self._reward_cut)
        if not self._reported:
            self._rewards += [parts for parts in rewards if parts]
            if min(len(self._rewards), self._texts) >= SAMPLE:
                self.report()
        return self._tokenizer.counting(texts)[0]

    def report(self) -> None:
        """Prints the shares so far, if any text was too long; once."""
        if self._reported:
            return
        self._reported = True
        found = measure_truncation(
            self._rewards,
            lambda texts: [len(spans) + 2 for spans in self._tokenizer.spans(texts)],
            limit=self._tokenizer.length,
            perspectives=self._perspectives,
        )
        self._rewards = []
        if self._truncated:
            print(
                f"warning: {self._truncated} of {self._texts} instructions "
                f"({self._truncated / self._texts:.0%}) have more than {self._tokenizer.length} "
                "tokens; their ends are cut off",
                file=sys.stderr,
            )
        if self._left_out:
            print(
                f"warning: {self._left_out} of {self._prompts} texts "
                f"({self._left_out / self._prompts:.0%}) do not fit their prompt "
                "(data.text_tokens); they are left out, and their edits do not count",
                file=sys.stderr,
            )
        if any(found.cut):
            how = "their ends are cut off; data.reward_cut=share cuts each perspective to its share"
            if self._reward_cut == "share":
                how = "each perspective is cut to its share, of what would be lost otherwise"
            print(f"warning: {found}; {how}", file=sys.stderr)
