"""The QFormer (Li et al. 2023, BLIP-2; Bert's layers): a language model's states as text states.

A fixed number of learned queries attend to each other, and in every second layer to the states.
SmartEdit takes what becomes of them for the states of a prompt: 77 of width 768, as CLIP's. Of the
original only what queries pass through is here; there are no words, positions or pooling. Names are
the checkpoint's.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from einops import rearrange, repeat
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from mre_jax.errors import ConfigError
from mre_jax.models.config_dict import check_divides, check_model_type, read_config, write_config
from mre_jax.models.dropout import dropped, folded
from mre_jax.models.layers import Compute, layer_norm, linear

_INITIAL_STD = 0.02
_LAYER_NORM_EPS = 1e-12


@dataclasses.dataclass(frozen=True)
class QFormerConfig:
    """Sizes; the defaults are SmartEdit-7B's.

    Attributes:
        query_length: how many states it gives, a CLIP text's length.
        hidden_size: their width, that of the UNet's cross-attention.
        cross_attention_freq: every how many layers, from the first, queries attend to the states.
        encoder_width: width of the states that are read: 4096 of a 7B model, 5120 of a 13B.
        dropout: of hidden states and attention, in training alone.

    Raises:
        ConfigError: if the sizes do not fit together.

    Example:
        >>> QFormerConfig.from_dict({"encoder_width": 5120}).hidden_size
        768
    """

    query_length: int = 77
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 6
    num_attention_heads: int = 12
    cross_attention_freq: int = 2
    encoder_width: int = 4096
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_divides(
            "num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size
        )
        for key in ("query_length", "num_hidden_layers", "cross_attention_freq", "encoder_width"):
            if (count := getattr(self, key)) < 1:
                raise ConfigError(f"{key} {count} is not supported; it must be 1 or more")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout {self.dropout} is not supported; it must be in [0, 1)")

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "QFormerConfig":
        """Reads a config.json; what it leaves out has SmartEdit-7B's value.

        Raises:
            ConfigError: for a configuration of another network.
        """
        check_model_type(mapping, "smartedit_qformer")
        return read_config(cls, mapping, defaults={}, supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for `from_dict`."""
        return {"model_type": "smartedit_qformer", **write_config(self)}


class _Dropout:
    """Dropout that draws anew at each call, for each example; without keys the identity."""

    def __init__(self, rate: float, keys: Key[Array, " b"] | None):
        self._rate, self._keys = rate, keys
        self._calls = itertools.count()

    def __call__(self, x: Array) -> Array:
        return dropped(x, self._rate, folded(self._keys, next(self._calls)))


class QueryKeyValue(nnx.Module):
    """Multi-head attention without its output layer: Bert's `self`."""

    def __init__(
        self, config: QFormerConfig, context_width: int, *, compute: Compute, rngs: nnx.Rngs
    ):
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = _linear(width, width, compute=compute, rngs=rngs)
        self.key = _linear(context_width, width, compute=compute, rngs=rngs)
        self.value = _linear(context_width, width, compute=compute, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        context: Float[Array, "b t e"],
        mask: Bool[Array, "b t"] | None,
        dropout: _Dropout,
    ) -> Float[Array, "b n d"]:
        query, key, value = (
            rearrange(made, "b n (k d) -> b n k d", k=self.heads)
            for made in (self.query(x), self.key(context), self.value(context))
        )
        scores = jnp.einsum("bnkd,btkd->bknt", query, key, preferred_element_type=jnp.float32)
        scores = scores * (1 / math.sqrt(query.shape[-1]))
        if mask is not None:
            # A row that sees nothing gets equal weights, as from the original's added minimum.
            lowest = jnp.finfo(jnp.float32).min
            scores = jnp.where(mask[:, None, None, :], scores, lowest)
        weights = dropout(jax.nn.softmax(scores, axis=-1)).astype(value.dtype)
        out = jnp.einsum("bknt,btkd->bnkd", weights, value)
        joined: Array = rearrange(out, "b n k d -> b n (k d)")
        return joined


class Residual(nnx.Module):
    """A dense layer, dropout, and LayerNorm of the sum with what went in: Bert's `output`."""

    def __init__(self, inner: int, width: int, *, compute: Compute, rngs: nnx.Rngs):
        self.dense = _linear(inner, width, compute=compute, rngs=rngs)
        self.LayerNorm = layer_norm(width, epsilon=_LAYER_NORM_EPS, compute=compute, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b n e"], before: Float[Array, "b n d"], dropout: _Dropout
    ) -> Float[Array, "b n d"]:
        out: Array = self.LayerNorm(dropout(self.dense(x)) + before)
        return out


class Attention(nnx.Module):
    """Post-norm attention of the queries to themselves or to the states."""

    def __init__(
        self, config: QFormerConfig, context_width: int, *, compute: Compute, rngs: nnx.Rngs
    ):
        width = config.hidden_size
        self.self = QueryKeyValue(config, context_width, compute=compute, rngs=rngs)
        self.output = Residual(width, width, compute=compute, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        context: Float[Array, "b t e"],
        mask: Bool[Array, "b t"] | None,
        dropout: _Dropout,
    ) -> Float[Array, "b n d"]:
        return self.output(self.self(x, context, mask, dropout), x, dropout)


class Intermediate(nnx.Module):
    """The first half of a feed-forward layer, with the exact GELU."""

    def __init__(self, config: QFormerConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.dense = _linear(width, inner, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n e"]:
        return jax.nn.gelu(self.dense(x), approximate=False)


class QFormerLayer(nnx.Module):
    """Self-attention, where `attends` attention to the states, and a feed-forward layer."""

    def __init__(self, config: QFormerConfig, attends: bool, *, compute: Compute, rngs: nnx.Rngs):
        width, states, inner = config.hidden_size, config.encoder_width, config.intermediate_size
        self.dropout = config.dropout
        self.attends = attends
        self.attention = Attention(config, width, compute=compute, rngs=rngs)
        if attends:
            self.crossattention = Attention(config, states, compute=compute, rngs=rngs)
        self.intermediate_query = Intermediate(config, compute=compute, rngs=rngs)
        self.output_query = Residual(inner, width, compute=compute, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        states: Float[Array, "b t e"],
        mask: Bool[Array, "b t"] | None,
        dropout_keys: Key[Array, " b"] | None,
    ) -> Float[Array, "b n d"]:
        dropout = _Dropout(self.dropout, dropout_keys)
        x = self.attention(x, x, None, dropout)
        if self.attends:
            x = self.crossattention(x, states, mask, dropout)
        return self.output_query(self.intermediate_query(x), x, dropout)


class Embeddings(nnx.Module):
    """The LayerNorm that queries pass first."""

    def __init__(self, config: QFormerConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.LayerNorm = layer_norm(
            config.hidden_size, epsilon=_LAYER_NORM_EPS, compute=compute, rngs=rngs
        )

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        out: Array = self.LayerNorm(x)
        return out


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: QFormerConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.compute = compute
        self.layer = nnx.List(
            QFormerLayer(
                config, index % config.cross_attention_freq == 0, compute=compute, rngs=rngs
            )
            for index in range(config.num_hidden_layers)
        )

    def __call__(
        self,
        x: Float[Array, "b n d"],
        states: Float[Array, "b t e"],
        mask: Bool[Array, "b t"] | None,
        dropout_keys: Key[Array, " b"] | None,
    ) -> Float[Array, "b n d"]:
        for index, layer in enumerate(self.layer):
            call = jax.checkpoint(layer.__call__) if self.compute.remat else layer
            x = call(x, states, mask, folded(dropout_keys, index))
        return x


class QFormer(nnx.Module):
    """Makes `query_length` text states of a language model's states.

    Where a mask hides states, the result is that of the shown ones alone. An example none of
    whose states is shown gets the equal mean of all, as in the official training code.

    Example:
        >>> config = QFormerConfig(query_length=5, hidden_size=12, encoder_width=8)
        >>> qformer = nnx.eval_shape(lambda: QFormer(config, compute=Compute(), rngs=nnx.Rngs(0)))
        >>> nnx.eval_shape(lambda qformer: qformer(jnp.ones((2, 32, 8))), qformer).shape
        (2, 5, 12)
    """

    def __init__(self, config: QFormerConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.compute = compute
        initial = nnx.initializers.normal(_INITIAL_STD)
        shape = (1, config.query_length, config.hidden_size)
        self.query_tokens = nnx.Param(initial(rngs.params(), shape, jnp.float32))
        self.embeddings = Embeddings(config, compute=compute, rngs=rngs)
        self.encoder = Encoder(config, compute=compute, rngs=rngs)

    def __call__(
        self,
        encoder_hidden_states: Float[Array, "b t e"],
        encoder_attention_mask: Bool[Array, "b t"] | None = None,
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b n d"]:
        """n text states of width d, in the compute dtype.

        Args:
            encoder_hidden_states: states of width e, `config.encoder_width`.
            encoder_attention_mask: which of them are seen; None is all.
            dropout_keys: one per example, for what training drops; None drops nothing.
        """
        states = encoder_hidden_states.astype(self.compute.dtype)
        queries = self.query_tokens[...].astype(self.compute.dtype)
        queries = repeat(queries, "1 n d -> b n d", b=states.shape[0])
        layers = self.config.num_hidden_layers
        dropout = _Dropout(self.config.dropout, folded(dropout_keys, layers))
        x = dropout(self.embeddings(queries))
        return self.encoder(x, states, encoder_attention_mask, dropout_keys)


def _linear(in_features: int, out_features: int, *, compute: Compute, rngs: nnx.Rngs) -> nnx.Linear:
    return linear(in_features, out_features, std=_INITIAL_STD, compute=compute, rngs=rngs)
