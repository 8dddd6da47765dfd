"""Low-rank adapters beside frozen dense layers (Hu et al. 2021), with the names of peft."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from mre_jax.errors import ConfigError
from mre_jax.models.config_dict import read_config, write_config
from mre_jax.models.dropout import dropped
from mre_jax.models.layers import Compute

_TARGETS = ("q_proj", "v_proj")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Sizes of the adapters, as an adapter_config.json names them; the defaults are SmartEdit's.

    Attributes:
        r: rank of the update, at least 1.
        lora_alpha: the update is multiplied by lora_alpha / r.
        lora_dropout: share in [0, 1) of an adapter's inputs that training drops.
        target_modules: layers that have an adapter; q_proj and v_proj of every decoder layer.

    Raises:
        ConfigError: for a value out of its range, or another target.
    """

    r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    target_modules: tuple[str, ...] = _TARGETS

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ConfigError(f"r {self.r} must be at least 1")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout {self.lora_dropout} must be in [0, 1)")
        if sorted(self.target_modules) != sorted(_TARGETS):
            raise ConfigError(
                f"target_modules {list(self.target_modules)} is not supported; "
                f"it must be {list(_TARGETS)}"
            )

    @property
    def scale(self) -> float:
        """What the low-rank product is multiplied by."""
        return self.lora_alpha / self.r

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "LoRAConfig":
        """Reads an adapter_config.json; what it leaves out has peft's default.

        Raises:
            ConfigError: for adapters of another kind or at other layers.
        """
        return read_config(
            cls,
            mapping,
            defaults={"lora_alpha": 8, "lora_dropout": 0.0},
            supported={
                "peft_type": "LORA",
                "bias": "none",
                "fan_in_fan_out": False,
                "modules_to_save": None,
                "use_dora": False,
                "use_rslora": False,
            },
        )

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of an adapter_config.json, for peft and for `from_dict`."""
        return {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", **write_config(self)}


class LoRALinear(nnx.Linear):
    """x W + (alpha / r) (x A) B: a dense layer without bias, its update kept apart.

    The update is computed in float32 whatever the layer's dtype: it is small beside x W, and costs
    little. It starts at 0, since B does.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        config: LoRAConfig,
        *,
        compute: Compute,
        rngs: nnx.Rngs,
    ):
        super().__init__(in_features, out_features, use_bias=False, dtype=compute.dtype, rngs=rngs)
        self.scale = config.scale
        self.dropout = config.lora_dropout
        self.lora_A = nnx.Linear(
            in_features,
            config.r,
            use_bias=False,
            kernel_init=_kaiming_uniform,
            dtype=jnp.float32,
            rngs=rngs,
        )
        self.lora_B = nnx.Linear(
            config.r,
            out_features,
            use_bias=False,
            kernel_init=nnx.initializers.zeros,
            dtype=jnp.float32,
            rngs=rngs,
        )

    def __call__(
        self, inputs: Float[Array, "b t d"], dropout_keys: Key[Array, " b"] | None = None
    ) -> Float[Array, "b t e"]:
        """Args:
        inputs: the layer's and the adapter's.
        dropout_keys: one per example, for training; None drops nothing.
        """
        frozen: Array = super().__call__(inputs)
        narrow = dropped(inputs.astype(jnp.float32), self.dropout, dropout_keys)
        update = self.lora_B(self.lora_A(narrow)) * self.scale
        return frozen + update.astype(frozen.dtype)


def _kaiming_uniform(key: Array, shape: Any, dtype: Any = jnp.float32, **_: Any) -> Array:
    """PyTorch's start of a dense layer, that peft gives to A."""
    bound = 1 / math.sqrt(shape[0])
    return jax.random.uniform(key, shape, dtype, -bound, bound)
