"""What CLIP's two encoders share: a stack of pre-norm transformer layers, and its sizes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import jax
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float

from mre_jax.errors import ConfigError
from mre_jax.models.attention import attention
from mre_jax.models.config_dict import check_divides, check_model_type, read_config, write_config
from mre_jax.models.layers import Compute, activation, layer_norm, linear

Config = TypeVar("Config", bound="EncoderConfig")

_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Transformers' names and meanings, for texts and for images.

    Attributes:
        projection_dim: width of the space that texts and images share; only a model with a
            projection uses it.

    Raises:
        ConfigError: if the sizes do not fit together or the activation is not CLIP's.
    """

    model_type: ClassVar[str]
    transformers_defaults: ClassVar[Mapping[str, Any]]

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    projection_dim: int = 768
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_divides(
            "num_attention_heads", self.num_attention_heads, "hidden_size", self.hidden_size
        )
        if self.hidden_act not in _ACTIVATIONS:
            raise ConfigError(
                f"hidden_act {self.hidden_act!r} is not supported; use {' or '.join(_ACTIVATIONS)}"
            )

    @classmethod
    def from_dict(cls: type[Config], mapping: Mapping[str, Any]) -> Config:
        """Reads an encoder's config.json; what it leaves out has transformers' default.

        Raises:
            ConfigError: for a configuration of another network.
        """
        check_model_type(mapping, cls.model_type)
        return read_config(cls, mapping, defaults=cls.transformers_defaults, supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for transformers and for `from_dict`."""
        return {"model_type": self.model_type, **write_config(self)}


class Attention(nnx.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, causal: bool, *, compute: Compute, rngs: nnx.Rngs):
        self.heads = heads
        self.causal = causal
        self.compute = compute
        self.q_proj = linear(width, width, compute=compute, rngs=rngs)
        self.k_proj = linear(width, width, compute=compute, rngs=rngs)
        self.v_proj = linear(width, width, compute=compute, rngs=rngs)
        self.out_proj = linear(width, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        query, key, value = (
            rearrange(project(x), "b n (k d) -> b n k d", k=self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = attention(
            query, key, value, implementation=self.compute.attention, causal=self.causal
        )
        return self.out_proj(rearrange(out, "b n k d -> b n (k d)"))


class MLP(nnx.Module):
    """Two dense layers with an activation between them."""

    def __init__(
        self, width: int, inner: int, hidden_act: str, *, compute: Compute, rngs: nnx.Rngs
    ):
        self.hidden_act = hidden_act
        self.fc1 = linear(width, inner, compute=compute, rngs=rngs)
        self.fc2 = linear(inner, width, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return self.fc2(activation(self.hidden_act)(self.fc1(x)))


class EncoderLayer(nnx.Module):
    """Pre-norm self-attention and MLP, each with a residual."""

    def __init__(self, config: EncoderConfig, causal: bool, *, compute: Compute, rngs: nnx.Rngs):
        width, inner = config.hidden_size, config.intermediate_size
        heads = config.num_attention_heads
        self.self_attn = Attention(width, heads, causal, compute=compute, rngs=rngs)
        self.layer_norm1 = norm(config, compute=compute, rngs=rngs)
        self.mlp = MLP(width, inner, config.hidden_act, compute=compute, rngs=rngs)
        self.layer_norm2 = norm(config, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers that both encoders share; only texts are `causal`."""

    def __init__(self, config: EncoderConfig, causal: bool, *, compute: Compute, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [
                EncoderLayer(config, causal, compute=compute, rngs=rngs)
                for _ in range(config.num_hidden_layers)
            ]
        )
        self.compute = compute

    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        for layer in self.layers:
            x = jax.checkpoint(layer.__call__)(x) if self.compute.remat else layer(x)
        return x


def norm(config: EncoderConfig, *, compute: Compute, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """A LayerNorm of the encoder's width."""
    return layer_norm(config.hidden_size, epsilon=config.layer_norm_eps, compute=compute, rngs=rngs)


def projection(
    config: EncoderConfig, width: int, *, compute: Compute, rngs: nnx.Rngs
) -> nnx.Linear:
    """The map to the space that texts and images share."""
    return linear(config.hidden_size, width, use_bias=False, compute=compute, rngs=rngs)
