"""The decoder of LLaMA (Touvron et al. 2023), with the names of transformers' checkpoints.

Padding stands on the right. A token attends to itself and to what stands before it, so padding is
hidden from every token by causality alone, and no mask is needed; the states of padding mean
nothing.

To decode, `Llama.prefill` reads a prompt and keeps each layer's keys and values, and `Llama.step`
reads one more token of every example. The slot of a token in the cache is its position, whatever
the lengths of the other prompts, so that a cached decode equals the forward pass of the whole text.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, Float32, Int, Key

from mre_jax.errors import ConfigError
from mre_jax.models.attention import attention
from mre_jax.models.dropout import folded
from mre_jax.models.layers import Compute, linear
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig, LoRALinear
from mre_jax.models.transformer import KeyValue


class Cache(NamedTuple):
    """What decoding keeps of the tokens it has read, a pytree of static shapes.

    Attributes:
        layers: of each layer the keys and values, [b t k d], at the token's position.
        lengths: tokens that each example has; what stands at later positions means nothing.
    """

    layers: tuple[KeyValue, ...]
    lengths: Int[Array, " b"]


class Rotation(NamedTuple):
    """Cosine and sine of each token's angles, one per pair of a head's entries."""

    cos: Float32[Array, "b t d"]
    sin: Float32[Array, "b t d"]


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) times a scale, in float32; returns its input's dtype."""

    def __init__(self, width: int, *, epsilon: float):
        self.epsilon = epsilon
        self.scale = nnx.Param(jnp.ones(width))

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        wide = x.astype(jnp.float32)
        factor = jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + self.epsilon)
        return (wide * factor * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class TokenEmbedding(nnx.Embed):
    """A lookup that casts the rows it takes, not the table."""

    def __call__(self, inputs: Int[Array, "*b"], out_sharding: Any = None) -> Float[Array, "*b d"]:
        rows: Array = jnp.take(self.embedding[...], inputs, axis=0)
        return rows.astype(self.dtype)


class Attention(nnx.Module):
    """Causal self-attention with rotary positions; q_proj and v_proj may have adapters."""

    def __init__(
        self, config: LlamaConfig, lora: LoRAConfig | None, *, compute: Compute, rngs: nnx.Rngs
    ):
        width, head_dim = config.hidden_size, config.head_dim
        narrow = config.key_value_heads * head_dim
        self.head_dim = head_dim
        self.groups = config.num_attention_heads // config.key_value_heads
        self.compute = compute
        self.q_proj = _dense(width, width, lora, compute=compute, rngs=rngs)
        self.k_proj = _dense(width, narrow, None, compute=compute, rngs=rngs)
        self.v_proj = _dense(width, narrow, lora, compute=compute, rngs=rngs)
        self.o_proj = _dense(width, width, None, compute=compute, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t d"], rotation: Rotation, keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b t d"], KeyValue]:
        """The attention of a whole text to itself, and what later tokens attend to."""
        query, context = self._project(x, rotation, keys)
        key, value = (self._for_every_head(part) for part in context)
        out = attention(query, key, value, implementation=self.compute.attention, causal=True)
        return self._merge(out), context

    def step(
        self,
        x: Float[Array, "b 1 d"],
        rotation: Rotation,
        past: KeyValue,
        positions: Int[Array, " b"],
    ) -> tuple[Float[Array, "b 1 d"], KeyValue]:
        """The attention of one more token, at `positions`, to itself and to what came before."""
        query, new = self._project(x, rotation, None)
        rows = jnp.arange(len(x))
        kept = KeyValue(
            *(
                old.at[rows, positions].set(one[:, 0], unique_indices=True)
                for old, one in zip(past, new, strict=True)
            )
        )
        return self._merge(self._attend(query, kept, positions)), kept

    def _attend(
        self, query: Float[Array, "b 1 k e"], past: KeyValue, positions: Int[Array, " b"]
    ) -> Float[Array, "b 1 k e"]:
        grouped = rearrange(query, "b 1 (j g) d -> b j g d", g=self.groups)
        logits = jnp.einsum(
            "bjgd,btjd->bjgt", grouped, past.key, preferred_element_type=jnp.float32
        )
        seen = jnp.arange(past.key.shape[1]) <= positions[:, None]
        logits = jnp.where(
            seen[:, None, None], logits / math.sqrt(self.head_dim), jnp.finfo(jnp.float32).min
        )
        weights = jax.nn.softmax(logits, axis=-1).astype(past.value.dtype)
        out = jnp.einsum("bjgt,btjd->bjgd", weights, past.value)
        return rearrange(out, "b j g d -> b 1 (j g) d")

    def _project(
        self, x: Float[Array, "b t d"], rotation: Rotation, keys: Key[Array, " b"] | None
    ) -> tuple[Float[Array, "b t k e"], KeyValue]:
        split = functools.partial(rearrange, pattern="b t (k d) -> b t k d", d=self.head_dim)
        query = rotate(split(_apply(self.q_proj, x, folded(keys, 0))), rotation)
        key = rotate(split(self.k_proj(x)), rotation)
        return query, KeyValue(key, split(_apply(self.v_proj, x, folded(keys, 1))))

    def _for_every_head(self, x: Float[Array, "b t j d"]) -> Float[Array, "b t k d"]:
        return jnp.repeat(x, self.groups, axis=2) if self.groups > 1 else x

    def _merge(self, out: Float[Array, "b t k d"]) -> Float[Array, "b t e"]:
        return self.o_proj(rearrange(out, "b t k d -> b t (k d)"))


class MLP(nnx.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig, *, compute: Compute, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = _dense(width, inner, None, compute=compute, rngs=rngs)
        self.up_proj = _dense(width, inner, None, compute=compute, rngs=rngs)
        self.down_proj = _dense(inner, width, None, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return self.down_proj(jax.nn.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nnx.Module):
    """Pre-norm self-attention and MLP, each with a residual."""

    def __init__(
        self, config: LlamaConfig, lora: LoRAConfig | None, *, compute: Compute, rngs: nnx.Rngs
    ):
        width, epsilon = config.hidden_size, config.rms_norm_eps
        self.self_attn = Attention(config, lora, compute=compute, rngs=rngs)
        self.mlp = MLP(config, compute=compute, rngs=rngs)
        self.input_layernorm = RMSNorm(width, epsilon=epsilon)
        self.post_attention_layernorm = RMSNorm(width, epsilon=epsilon)

    def __call__(
        self, x: Float[Array, "b t d"], rotation: Rotation, keys: Key[Array, " b"] | None = None
    ) -> tuple[Float[Array, "b t d"], KeyValue]:
        attended, context = self.self_attn(self.input_layernorm(x), rotation, keys)
        return self._feed_forward(x + attended), context

    def step(
        self,
        x: Float[Array, "b 1 d"],
        rotation: Rotation,
        past: KeyValue,
        positions: Int[Array, " b"],
    ) -> tuple[Float[Array, "b 1 d"], KeyValue]:
        attended, past = self.self_attn.step(self.input_layernorm(x), rotation, past, positions)
        return self._feed_forward(x + attended), past

    def _feed_forward(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nnx.Module):
    """Token ids or their embeddings to states after the final RMSNorm, in `compute.dtype`.

    Parameters may be stored in bfloat16 or in float32, each by itself; they are cast at their use.

    Raises:
        ConfigError: for texts longer than `config.max_position_embeddings`.

    Example:
        >>> config = LlamaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=1,
        ...     intermediate_size=32, num_attention_heads=4)
        >>> llama = nnx.eval_shape(lambda: Llama(config, compute=Compute(), rngs=nnx.Rngs(0)))
        >>> nnx.eval_shape(lambda llama: llama(jnp.zeros((2, 5), int)), llama).shape
        (2, 5, 16)
    """

    def __init__(
        self,
        config: LlamaConfig,
        lora: LoRAConfig | None = None,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.compute = compute
        self.embed_tokens = TokenEmbedding(
            config.vocab_size, config.hidden_size, dtype=compute.dtype, rngs=rngs
        )
        self.layers = nnx.List(
            [
                DecoderLayer(config, lora, compute=compute, rngs=rngs)
                for _ in range(config.num_hidden_layers)
            ]
        )
        self.norm = RMSNorm(config.hidden_size, epsilon=config.rms_norm_eps)

    def __call__(
        self,
        inputs: Int[Array, "b t"] | Float[Array, "b t d"],
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b t d"]:
        """The last states, one per token.

        Args:
            inputs: ids, or embeddings as `embed_tokens` gives them; padding on the right.
            dropout_keys: one per example, for the adapters' dropout in training.
        """
        x = self._embedded(inputs)
        rotation = self._rotation(jnp.arange(x.shape[1])[None])
        for number, layer in enumerate(self.layers):
            x, _ = self._run(
                DecoderLayer.__call__, layer, x, rotation, folded(dropout_keys, number)
            )
        return self.norm(x)

    def prefill(
        self,
        inputs: Int[Array, "b t"] | Float[Array, "b t d"],
        lengths: Int[Array, " b"],
        capacity: int,
    ) -> tuple[Float[Array, "b t d"], Cache]:
        """The states of a prompt, and the cache that `step` goes on from.

        Args:
            inputs: as in `__call__`.
            lengths: tokens of each example without its padding.
            capacity: tokens that the cache holds; t and those to come.
        """
        x = self._embedded(inputs)
        self._check_length(capacity)
        rotation = self._rotation(jnp.arange(x.shape[1])[None])
        room = [(0, 0), (0, capacity - x.shape[1]), (0, 0), (0, 0)]
        layers = []
        for layer in self.layers:
            x, context = self._run(DecoderLayer.__call__, layer, x, rotation, None)
            layers.append(KeyValue(*(jnp.pad(part, room) for part in context)))
        return self.norm(x), Cache(tuple(layers), lengths)

    def step(
        self, inputs: Int[Array, " b"] | Float[Array, "b d"], cache: Cache
    ) -> tuple[Float[Array, "b d"], Cache]:
        """The state of one more token of each example, and the cache that holds it.

        A token beyond the cache's capacity is not kept, and its state means nothing.
        """
        x, positions = self._embedded(inputs[:, None]), cache.lengths
        rotation = self._rotation(positions[:, None])
        layers = []
        for layer, past in zip(self.layers, cache.layers, strict=True):
            x, past = self._run(DecoderLayer.step, layer, x, rotation, past, positions)
            layers.append(past)
        return self.norm(x)[:, 0], Cache(tuple(layers), positions + 1)

    def _embedded(self, inputs: Int[Array, "b t"] | Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        self._check_length(inputs.shape[1])
        if jnp.issubdtype(inputs.dtype, jnp.integer):
            return self.embed_tokens(inputs)
        return inputs.astype(self.compute.dtype)

    def _check_length(self, tokens: int) -> None:
        longest = self.config.max_position_embeddings
        if tokens > longest:
            raise ConfigError(
                f"{tokens} tokens are too many for this decoder; "
                f"cut them to {longest}, max_position_embeddings"
            )

    def _rotation(self, positions: Int[Array, "b t"]) -> Rotation:
        return rotary(positions, self.config.head_dim, self.config.rope_theta)

    def _run(self, method: Callable[..., Any], layer: DecoderLayer, *args: Any) -> Any:
        graph, state = nnx.split(layer)
        run = functools.partial(_layer, method, graph)
        return (jax.checkpoint(run) if self.compute.remat else run)(state, *args)


class LlamaForCausalLM(nnx.Module):
    """The decoder and its map to logits, `lm_head`, which is computed in float32."""

    def __init__(
        self,
        config: LlamaConfig,
        lora: LoRAConfig | None = None,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.config = config
        self.lora = lora
        self.model = Llama(config, lora, compute=compute, rngs=rngs)
        self.lm_head = _dense(
            config.hidden_size,
            config.vocab_size,
            None,
            compute=dataclasses.replace(compute, dtype=jnp.float32),
            rngs=rngs,
        )

    def __call__(
        self,
        inputs: Int[Array, "b t"] | Float[Array, "b t d"],
        dropout_keys: Key[Array, " b"] | None = None,
    ) -> Float32[Array, "b t v"]:
        """Logits of the token that follows each token; arguments as those of `Llama`."""
        return self.logits(self.model(inputs, dropout_keys))

    def logits(self, states: Float[Array, "*b d"]) -> Float32[Array, "*b v"]:
        """Logits of the token that follows the one with this state."""
        return self.lm_head(states.astype(jnp.float32))


def rotary(positions: Int[Array, "b t"], head_dim: int, theta: float) -> Rotation:
    """Rotary positions (Su et al. 2021) as transformers lays them out.

    Entry i of a head and entry i + head_dim / 2 are one pair, which turns by
    position / theta^(2 i / head_dim).

    Args:
        head_dim: even width of a head.
    """
    exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles = positions.astype(jnp.float32)[..., None] / theta**exponents
    return Rotation(jnp.cos(angles), jnp.sin(angles))


def rotate(x: Float[Array, "b t k d"], rotation: Rotation) -> Float[Array, "b t k d"]:
    """Turns each pair of entries by its token's angle, in float32; returns its input's dtype."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    cos, sin = (part[:, :, None] for part in rotation)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


# All layers are one graph with different values: they are traced once and lowered to one function.
@functools.partial(jax.jit, static_argnums=(0, 1))
def _layer(method: Callable[..., Any], graph: Any, state: Any, *args: Any) -> Any:
    return method(nnx.merge(graph, state), *args)


def _dense(
    in_features: int,
    out_features: int,
    lora: LoRAConfig | None,
    *,
    compute: Compute,
    rngs: nnx.Rngs,
) -> nnx.Linear:
    if lora is not None:
        return LoRALinear(in_features, out_features, lora, compute=compute, rngs=rngs)
    return linear(in_features, out_features, use_bias=False, compute=compute, rngs=rngs)


def _apply(
    layer: nnx.Linear, x: Float[Array, "b t d"], keys: Key[Array, " b"] | None
) -> Float[Array, "b t e"]:
    out: Array = layer(x, keys) if isinstance(layer, LoRALinear) else layer(x)
    return out
