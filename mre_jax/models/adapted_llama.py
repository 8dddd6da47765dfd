"""LLaMA with its adapters as one network with one configuration, as a model folder holds it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import nnx

from mre_jax.models.layers import Compute
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.llama_config import LlamaConfig
from mre_jax.models.lora import LoRAConfig


@dataclasses.dataclass(frozen=True)
class AdaptedLlamaConfig:
    """The decoder's sizes, and under `lora` in its config.json those of its adapters, if any.

    Example:
        >>> AdaptedLlamaConfig.from_dict({"hidden_size": 64, "lora": {"r": 8,
        ...     "target_modules": ["q_proj", "v_proj"]}}).lora.r
        8
    """

    llama: LlamaConfig = dataclasses.field(default_factory=LlamaConfig)
    lora: LoRAConfig | None = dataclasses.field(default_factory=LoRAConfig)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "AdaptedLlamaConfig":
        """Reads a config.json.

        Raises:
            ConfigError: for a configuration of another network, or other adapters.
        """
        lora = mapping.get("lora")
        return cls(
            LlamaConfig.from_dict(mapping), None if lora is None else LoRAConfig.from_dict(lora)
        )

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for `from_dict`."""
        lora = {} if self.lora is None else {"lora": self.lora.to_dict()}
        return {**self.llama.to_dict(), **lora}


class AdaptedLlama(LlamaForCausalLM):
    """`LlamaForCausalLM` made of one configuration, as the networks of a model folder are."""

    def __init__(self, config: AdaptedLlamaConfig, *, compute: Compute, rngs: nnx.Rngs):
        super().__init__(config.llama, config.lora, compute=compute, rngs=rngs)
