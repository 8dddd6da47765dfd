"""Dropout whose draws belong to an example, whatever the batch it stands in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key


def dropped(
    x: Float[Array, "b *n"], rate: float, keys: Key[Array, " b"] | None
) -> Float[Array, "b *n"]:
    """Entries set to 0 with the probability `rate`, the others divided by what is kept.

    Args:
        rate: 0 to below 1.
        keys: one per example; None, as when nothing is trained, drops nothing.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> both, second = (dropped(jnp.ones((len(k), 9)), 0.5, k) for k in (keys, keys[1:]))
        >>> bool((both[1:] == second).all())
        True
    """
    if keys is None or rate == 0:
        return x
    share = 1 - rate

    def draw(key: Key[Array, ""]) -> Bool[Array, "*n"]:
        return jax.random.bernoulli(key, share, x.shape[1:])

    # Apart from its uses: XLA may else draw once more in every one of them.
    kept = jax.lax.optimization_barrier(jax.vmap(draw)(keys))
    return jnp.where(kept, x / share, jnp.zeros_like(x))


def folded(keys: Key[Array, " b"] | None, number: int) -> Key[Array, " b"] | None:
    """Keys of their own for the part `number` of a network."""
    if keys is None:
        return None
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, jnp.uint32(number))
