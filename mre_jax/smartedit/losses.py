"""The language part of SmartEdit's loss, and which rows of the vocabulary it trains."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

from mre_jax.smartedit.prompt import IGNORED


def language_loss(logits: Float[Array, "b t v"], labels: Int[Array, "b t"]) -> Float32[Array, ""]:
    """Cross-entropy of the next token, the mean over all predicted tokens of the batch, float32.

    Args:
        logits: at each token, of the one that follows.
        labels: ids at their own positions, -100 where a token is not predicted; the first position
            follows nothing and is never predicted.

    Returns:
        The mean in nats; 0 where no token is predicted.

    Example:
        >>> logits = jnp.zeros((1, 3, 8))
        >>> round(float(language_loss(logits, jnp.array([[5, -100, 2]]))), 4)  # log 8
        2.0794
    """
    following = labels[:, 1:]
    predicted = following != IGNORED
    wide = logits[:, :-1].astype(jnp.float32)
    ids = jnp.where(predicted, following, 0)
    found = jnp.take_along_axis(wide, ids[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(wide, axis=-1) - found
    total = jnp.sum(jnp.where(predicted, losses, 0))
    return total / jnp.maximum(jnp.sum(predicted, dtype=jnp.float32), 1)


def new_rows_only(
    values: Float[Array, "*shape"], first_row: int, axis: int = 0
) -> Float[Array, "*shape"]:
    """`values` with 0 for the ids below `first_row`, which are frozen.

    Applied to the gradient, the optimizer's moments of these ids stay 0 and its clipping does not
    see them; applied to the update too, weight decay does not reach them either, and they stay
    equal to the bit.

    Args:
        values: a gradient or an update of the embedding [v, d] or of `lm_head`'s kernel [d, v].
        first_row: the first added token's id, 32000 for LLaMA.
        axis: that of the ids: 0 for the embedding, 1 for the kernel.

    Example:
        >>> new_rows_only(jnp.ones((3, 2)), 2).tolist()
        [[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]
    """
    is_new = jnp.arange(values.shape[axis]) >= first_row
    shape = [1] * values.ndim
    shape[axis] = -1
    return jnp.where(is_new.reshape(shape), values, 0)
