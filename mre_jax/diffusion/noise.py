"""Random numbers of sampling: one key per item, so that a result depends on nothing else.

An item's key comes from the seed and the item's id. What it draws is the same in any batch, at
any position, beside any companions, and on any number of devices.
"""

import enum
import hashlib
import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float32, Key

from mre_jax.errors import ConfigError


class Stream(enum.IntEnum):
    """The independent uses of an item's randomness. The values must never change."""

    LATENTS = 0
    STEPS = 1
    REPLY = 2


def item_keys(seeds: Sequence[int], item_ids: Sequence[str]) -> Key[Array, " b"]:
    """One key per item, a function of that item's seed and id alone.

    Args:
        seeds: b seeds in 0 .. 2**32 - 1.
        item_ids: b ids, any text; two items of equal seed and id get equal noise.

    Raises:
        ConfigError: for a seed out of range, or if the lengths differ.

    Example:
        >>> together = initial_latents(item_keys([0, 0], ["a.png", "b.png"]), (8, 8, 4))
        >>> alone = initial_latents(item_keys([0], ["b.png"]), (8, 8, 4))
        >>> bool((together[1] == alone[0]).all())
        True
    """
    if len(seeds) != len(item_ids):
        raise ConfigError(f"{len(seeds)} seeds for {len(item_ids)} items: give one seed per item")
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ConfigError(f"seed={seed} must be in 0 .. {2**32 - 1}")
    digests = [hashlib.sha256(item_id.encode()).digest()[:8] for item_id in item_ids]
    words = np.frombuffer(b"".join(digests), dtype=">u4").astype(np.uint32).reshape(-1, 2)
    keys: Array = _keys(np.asarray(seeds, np.uint32), words)
    return keys


def stream_keys(keys: Key[Array, " b"], stream: Stream) -> Key[Array, " b"]:
    """The keys of one use of the items' randomness."""
    return _fold(keys, np.uint32(stream))


def initial_latents(
    keys: Key[Array, " b"], shape: tuple[int, int, int]
) -> Float32[Array, "b h w c"]:
    """Standard normal latents [b, *shape] to start from; `keys` are the items' keys."""
    return normal_per_example(stream_keys(keys, Stream.LATENTS), shape)


def step_noise(
    keys: Key[Array, " b"], index: Array | int, shape: tuple[int, ...]
) -> Float32[Array, "b ..."]:
    """Standard normal noise [b, *shape] of sampling step `index`; `keys` are the items' keys."""
    return normal_per_example(_fold(stream_keys(keys, Stream.STEPS), index), shape)


def normal_per_example(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Float32[Array, "b ..."]:
    """Standard normal noise [b, *shape], row i drawn from key i."""
    # Drawn flat: the numbers are the same, and XLA compiles the counters of three axes for seconds.
    flat = jax.vmap(lambda key: jax.random.normal(key, (math.prod(shape),)))(keys)
    return flat.reshape(-1, *shape)


def _fold(keys: Key[Array, " b"], data: Array | int | np.uint32) -> Key[Array, " b"]:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, data)


@jax.jit
@jax.vmap
def _keys(seed: Array, words: Array) -> Array:
    key = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(key, words[0]), words[1])
