"""The language part of SmartEdit's loss."""

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
    total = jnp.sum(token_losses(logits, labels))
    return total / jnp.maximum(jnp.sum(predicted_tokens(labels), dtype=jnp.float32), 1)


def token_losses(logits: Float[Array, "b t v"], labels: Int[Array, "b t"]) -> Float32[Array, " b"]:
    """The sum over each text's predicted tokens; arguments as those of `language_loss`."""
    following = labels[:, 1:]
    predicted = following != IGNORED
    wide = logits[:, :-1].astype(jnp.float32)
    ids = jnp.where(predicted, following, 0)
    found = jnp.take_along_axis(wide, ids[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(wide, axis=-1) - found
    return jnp.sum(jnp.where(predicted, losses, 0), axis=1)


def predicted_tokens(labels: Int[Array, "b t"]) -> Int[Array, " b"]:
    """How many tokens of each text are predicted."""
    return jnp.sum(labels[:, 1:] != IGNORED, axis=1)
