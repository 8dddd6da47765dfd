"""A language model that says what it is told to."""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mre_jax.models.layers import Compute
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.llama_config import LlamaConfig


def state_width(tokenizer):
    return tokenizer.size + tokenizer.size % 2


def speaker(tokenizer, prompts, *more):
    """A random decoder whose next token follows from the last: here, the template's reply.

    Args:
        more: (token, following, logit) besides.
    """
    width = state_width(tokenizer)
    config = LlamaConfig(
        vocab_size=tokenizer.size,
        hidden_size=width,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=1,
        max_position_embeddings=96,
    )
    model = LlamaForCausalLM(config, compute=Compute(), rngs=nnx.Rngs(0))
    # A token is one axis of the states, which the layers hardly turn.
    model.model.embed_tokens.embedding[...] = jnp.eye(tokenizer.size, width) * 20
    _, given = prompts
    head = np.zeros((width, tokenizer.size), np.float32)
    ids, start = given.input_ids[0], int((given.labels[0] >= 0).argmax())
    reply = ids[start - 1 : given.lengths[0]]
    assert len(set(reply.tolist())) == len(reply)
    for token, following in itertools.pairwise(reply):
        head[token, following] = 4
    for token, following, logit in more:
        head[token, following] = logit
    model.lm_head.kernel[...] = jnp.asarray(head)
    return model
