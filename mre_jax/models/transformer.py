"""The transformer inside a UNet block: self-attention, attention to the prompt, feed-forward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.models.attention import attention
from mre_jax.models.layers import Compute, conv, group_norm, layer_norm, linear


class KeyValue(NamedTuple):
    """What attention sees of its context: keys and values of t tokens, split into k heads."""

    key: Float[Array, "b t k d"]
    value: Float[Array, "b t k d"]


class Attention(nnx.Module):
    """Multi-head attention; its context enters as `KeyValue`, computed apart from the query."""

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        upcast: bool,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        self.heads = heads
        self.upcast = upcast
        self.compute = compute
        self.to_q = linear(width, width, use_bias=False, compute=compute, rngs=rngs)
        self.to_k = linear(context_width, width, use_bias=False, compute=compute, rngs=rngs)
        self.to_v = linear(context_width, width, use_bias=False, compute=compute, rngs=rngs)
        self.to_out = nnx.List([linear(width, width, compute=compute, rngs=rngs)])

    def key_value(self, context: Float[Array, "b t c"]) -> KeyValue:
        return KeyValue(self._split(self.to_k(context)), self._split(self.to_v(context)))

    def __call__(self, x: Float[Array, "b n d"], context: KeyValue) -> Float[Array, "b n d"]:
        query, key, value = self._split(self.to_q(x)), context.key, context.value
        if self.upcast:
            query, key, value = (a.astype(jnp.float32) for a in (query, key, value))
        out = attention(query, key, value, implementation=self.compute.attention)
        return self.to_out[0](rearrange(out, "b n k d -> b n (k d)").astype(x.dtype))

    def _split(self, x: Float[Array, "b n d"]) -> Float[Array, "b n k e"]:
        return rearrange(x, "b n (k e) -> b n k e", k=self.heads)


class GEGLU(nnx.Module):
    """A linear layer gated by the exact GELU of another (Shazeer 2020)."""

    def __init__(self, width: int, inner: int, *, compute: Compute, rngs: nnx.Rngs):
        self.proj = linear(width, 2 * inner, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n e"]:
        # The weights are split, not their product: differentiating that would pad and copy it.
        kernels = jnp.split(self.proj.kernel[...].astype(self.proj.dtype), 2, axis=-1)
        biases = jnp.split(self.proj.bias[...].astype(self.proj.dtype), 2)  # type: ignore
        value, gate = (x @ k + b for k, b in zip(kernels, biases, strict=True))
        return value * jax.nn.gelu(gate, approximate=False)


class FeedForward(nnx.Module):
    """GEGLU to four times the width and back; index 1 of PyTorch's list is a dropout."""

    def __init__(self, width: int, *, compute: Compute, rngs: nnx.Rngs):
        inner = 4 * width
        self.net = nnx.Dict(
            {
                "0": GEGLU(width, inner, compute=compute, rngs=rngs),
                "2": linear(inner, width, compute=compute, rngs=rngs),
            }
        )

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        out: Array = self.net["2"](self.net["0"](x))
        return out


class BasicTransformerBlock(nnx.Module):
    """Pre-norm self-attention, cross-attention and feed-forward, each with a residual."""

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        upcast: bool = False,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        def norm() -> nnx.LayerNorm:
            return layer_norm(width, epsilon=1e-5, compute=compute, rngs=rngs)

        self.norm1 = norm()
        self.attn1 = Attention(width, width, heads, upcast, compute=compute, rngs=rngs)
        self.norm2 = norm()
        self.attn2 = Attention(width, context_width, heads, upcast, compute=compute, rngs=rngs)
        self.norm3 = norm()
        self.ff = FeedForward(width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"], context: KeyValue) -> Float[Array, "b n d"]:
        normed = self.norm1(x)
        x = x + self.attn1(normed, self.attn1.key_value(normed))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer2D(nnx.Module):
    """One `BasicTransformerBlock` over the h*w positions of a feature map, with a residual."""

    def __init__(
        self,
        channels: int,
        context_width: int,
        heads: int,
        groups: int,
        use_linear_projection: bool = False,
        upcast: bool = False,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        # Either acts on channels alone; they differ in the shape of the checkpoint's kernel.
        def projection() -> nnx.Module:
            if use_linear_projection:
                return linear(channels, channels, compute=compute, rngs=rngs)
            return conv(channels, channels, 1, compute=compute, rngs=rngs)

        self.norm = group_norm(channels, groups=groups, epsilon=1e-6, compute=compute, rngs=rngs)
        self.proj_in = projection()
        self.transformer_blocks = nnx.List(
            [
                BasicTransformerBlock(
                    channels, context_width, heads, upcast, compute=compute, rngs=rngs
                )
            ]
        )
        self.proj_out = projection()

    def key_value(self, context: Float[Array, "b t c"]) -> KeyValue:
        """What the cross-attention needs of the prompt's states."""
        return self.transformer_blocks[0].attn2.key_value(context)

    def __call__(self, x: Float[Array, "b h w c"], context: KeyValue) -> Float[Array, "b h w c"]:
        height = x.shape[1]
        tokens = rearrange(self.proj_in(self.norm(x)), "b h w c -> b (h w) c")
        tokens = self.transformer_blocks[0](tokens, context)
        out: Array = x + self.proj_out(rearrange(tokens, "b (h w) c -> b h w c", h=height))
        return out
