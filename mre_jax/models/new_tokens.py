"""Rows of a vocabulary that are trained beside a base that is not, with arrays of their own.

SmartEdit adds 35 tokens to LLaMA's 32000 and trains their rows of the embedding and of the head
alone. The rows are an array beside the frozen table, so that the base keeps its bits, and has
neither gradient nor moments.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from mre_jax.models.llama import LlamaForCausalLM, TokenEmbedding


class JoinedEmbedding(nnx.Module):
    """A lookup in a table whose last rows are others than those it holds.

    Args:
        base: the table, whose own last rows are not read.
        rows: what stands in their place.
    """

    def __init__(self, base: TokenEmbedding, rows: Float[Array, "n d"]):
        self.base = base
        self.rows = nnx.Param(rows)
        self.first = base.num_embeddings - len(rows)

    def __call__(self, inputs: Int[Array, "*b"]) -> Float[Array, "*b d"]:
        new = jnp.take(self.rows[...], jnp.maximum(inputs - self.first, 0), axis=0)
        old = self.base(inputs)
        return jnp.where((inputs >= self.first)[..., None], new.astype(old.dtype), old)


class JoinedHead(nnx.Module):
    """A dense layer whose last outputs come of other columns than those it holds.

    Args:
        base: the layer, without bias.
        rows: a column of the kernel each.
    """

    def __init__(self, base: nnx.Linear, rows: Float[Array, "n d"]):
        self.base = base
        self.rows = nnx.Param(rows)

    def __call__(self, inputs: Float[Array, "*b d"]) -> Float[Array, "*b v"]:
        old: Any = self.base(inputs)
        new = jnp.einsum("...d,nd->...n", inputs, self.rows[...].astype(inputs.dtype))
        return jnp.concatenate([old[..., : -len(self.rows[...])], new], axis=-1)


def with_new_rows(
    llm: LlamaForCausalLM, embedding: Float[Array, "n d"], head: Float[Array, "n d"]
) -> LlamaForCausalLM:
    """The network, which is changed, with these rows for its last n tokens."""
    made: Any = llm  # of whose layers the joined ones do the same
    made.model.embed_tokens = JoinedEmbedding(llm.model.embed_tokens, embedding)
    made.lm_head = JoinedHead(llm.lm_head, head)
    return llm
