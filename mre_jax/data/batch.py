"""What one training step reads."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8, UInt32

Tokenize: TypeAlias = Callable[[Sequence[str]], Int32[np.ndarray, "b t"]]
"""Token ids of texts, padded and cut to the text encoder's window."""

Texts: TypeAlias = list[str] | Int32[np.ndarray, "b t"]


class Batch(NamedTuple):
    """A host's part of a batch, of b examples.

    Pictures stay bytes until they are on the device, where `to_float` makes them [-1, 1]: a quarter
    of the memory and transfer of float32, and the same numbers.

    Attributes:
        original: the pictures before the edit.
        edited: the pictures after it, cropped and mirrored alike.
        instruction: texts, or token ids if there is a tokenizer.
        scores: 0 .. 5 for following, preserving and quality; 0 where there is no reward.
        reward_text: likewise; "" where there is no reward.
        present: whether there is a reward.
        drop_text: whether the text condition is to be left out, for classifier-free guidance.
        drop_image: whether the original picture is to be left out.
        flip: whether the pictures were mirrored.
        key_data: a key for each example's noise, for `jax.random.wrap_key_data`.
        positions: place of each example in the run: step * global batch size + slot.
    """

    original: UInt8[np.ndarray, "b H W 3"]
    edited: UInt8[np.ndarray, "b H W 3"]
    instruction: Texts
    scores: Float32[np.ndarray, "b 3"]
    reward_text: Texts
    present: Bool[np.ndarray, " b"]
    drop_text: Bool[np.ndarray, " b"]
    drop_image: Bool[np.ndarray, " b"]
    flip: Bool[np.ndarray, " b"]
    key_data: UInt32[np.ndarray, "b 2"]
    positions: Int64[np.ndarray, " b"]
