"""A picture's patches into a text's embeddings, and the image tokens' states out of the reply."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def splice_image(
    embeddings: Float[Array, "b t d"],
    image_features: Float[Array, "b n d"],
    image_start: Int[Array, " b"],
) -> Float[Array, "b t d"]:
    """The embeddings with the picture's features from `image_start` on, in the embeddings' dtype.

    Args:
        image_start: as in `mre_jax.smartedit.prompt.Prompts`, at most t - n.

    Example:
        >>> text, picture = jnp.zeros((1, 5, 2)), jnp.ones((1, 3, 2))
        >>> splice_image(text, picture, jnp.array([1]))[0, :, 0].tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]
    """

    def of_one(text: Array, picture: Array, start: Array) -> Array:
        return jax.lax.dynamic_update_slice_in_dim(text, picture, start, axis=0)

    spliced: Array = jax.vmap(of_one)(
        embeddings, image_features.astype(embeddings.dtype), image_start
    )
    return spliced


def image_token_states(
    states: Float[Array, "b t d"], positions: Int[Array, "b s"]
) -> Float[Array, "b s d"]:
    """The states at which the image tokens are the input, in float32.

    Args:
        positions: `state_positions` of `mre_jax.smartedit.prompt.Prompts`.
    """
    return jnp.take_along_axis(states, positions[..., None], axis=1).astype(jnp.float32)
