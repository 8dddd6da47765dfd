"""What one training step reads."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Int64, UInt8, UInt32

from mre_jax.reward.text import Parts
from mre_jax.smartedit.prompt import Prompts

Tokenize: TypeAlias = Callable[[Sequence[str]], Int32[np.ndarray, "b t"]]
"""Token ids of texts, padded and cut to the text encoder's window."""

TokenizeRewards: TypeAlias = Callable[[Sequence[Parts]], Int32[np.ndarray, "b t"]]
"""The same of rewards, each in its parts."""

WritePrompts: TypeAlias = Callable[[Sequence[str], UInt32[np.ndarray, "b 2"]], Prompts]
"""The prompts of instructions, of which each has its example's key."""

Texts: TypeAlias = list[str] | Int32[np.ndarray, "b t"]


class Cached(NamedTuple):
    """What the frozen encoders said of b examples, in the cache's dtype: float16 or bfloat16.

    Attributes:
        original: mode of the posterior of the picture before the edit, unscaled.
        edited_mean: mean of the posterior of the picture after it, unscaled; training samples.
        edited_logvar: logarithm of its variance.
        instruction_states: states of each token of the instruction, or what SmartEdit makes of
            picture and instruction in their place; None if texts are not cached.
        reward_states: states of each token of the reward text; likewise.
        reward_pooled: state of the reward text as a whole; likewise.
        image_features: SmartEdit's v' at the grid of the p x p patches; None of another editor.
    """

    original: Float[np.ndarray, "b h w c"]
    edited_mean: Float[np.ndarray, "b h w c"]
    edited_logvar: Float[np.ndarray, "b h w c"]
    instruction_states: Float[np.ndarray, "b t d"] | None = None
    reward_states: Float[np.ndarray, "b t d"] | None = None
    reward_pooled: Float[np.ndarray, "b d"] | None = None
    image_features: Float[np.ndarray, "b p p e"] | None = None


class Batch(NamedTuple):
    """A host's part of a batch, of b examples.

    Pictures stay bytes until they are on the device, where `to_float` makes them [-1, 1]: a quarter
    of the memory and transfer of float32, and the same numbers.

    Attributes:
        original: the pictures before the edit; None if `cached` stands for them.
        edited: the pictures after it, cropped and mirrored alike; likewise.
        instruction: texts, or token ids if there is a tokenizer; None if their states are cached.
        scores: 0 .. 5 for following, preserving and quality; 0 where there is no reward.
        reward_text: texts or ids, as `instruction`; "" where there is no reward.
        present: whether there is a reward.
        drop_text: whether the text condition is to be left out, for classifier-free guidance.
        drop_image: whether the original picture is to be left out.
        flip: whether the pictures were mirrored.
        key_data: a key for each example's noise, for `jax.random.wrap_key_data`.
        positions: place of each example in the run: step * global batch size + slot.
        cached: what the encoders said of the same examples, mirrored where `flip` says so; None
            if they are to be asked.
        prompts: what SmartEdit's language model reads, where a step encodes instructions; their
            texts are then in it alone, unless the text encoder's states of them are learnt from.
        clip_pixels: the pictures before the edit as its vision tower sees them, squashed to its
            square.
        token_weight: the examples of the global batch over its predicted tokens, the same for each:
            what the loss of a token counts, so that a mean over examples is one over tokens. The
            step computes it.
    """

    original: UInt8[np.ndarray, "b H W 3"] | None
    edited: UInt8[np.ndarray, "b H W 3"] | None
    instruction: Texts | None
    scores: Float32[np.ndarray, "b p"]
    reward_text: Texts | None
    present: Bool[np.ndarray, " b"]
    drop_text: Bool[np.ndarray, " b"]
    drop_image: Bool[np.ndarray, " b"]
    flip: Bool[np.ndarray, " b"]
    key_data: UInt32[np.ndarray, "b 2"]
    positions: Int64[np.ndarray, " b"]
    cached: Cached | None = None
    prompts: Prompts | None = None
    clip_pixels: UInt8[np.ndarray, "b s s 3"] | None = None
    token_weight: Float32[np.ndarray, " b"] | None = None
