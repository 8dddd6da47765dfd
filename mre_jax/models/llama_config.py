"""Sizes of LLaMA's decoder."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.models.config_dict import check_divides, check_model_type, read_config, write_config


@dataclasses.dataclass(frozen=True)
class LlamaConfig:
    """Sizes under transformers' names; the defaults are SmartEdit-7B's.

    Attributes:
        vocab_size: rows of `embed_tokens` and of `lm_head`; SmartEdit adds 35 to LLaMA's 32000.
        num_key_value_heads: heads of keys and values, each for a group of query heads; None is
            `num_attention_heads`.
        max_position_embeddings: tokens that fit.
        rope_theta: base of the wavelengths of the rotary positions.

    Raises:
        ConfigError: if the sizes do not fit together.
    """

    vocab_size: int = 32035
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        heads, width = self.num_attention_heads, self.hidden_size
        check_divides("num_attention_heads", heads, "hidden_size", width)
        check_divides("num_key_value_heads", self.key_value_heads, "num_attention_heads", heads)
        if self.head_dim % 2:
            raise ConfigError(
                f"hidden_size {width} in {heads} num_attention_heads gives heads of odd width "
                f"{self.head_dim}, which rotary positions cannot turn; make it even"
            )

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def key_value_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_key_value_heads or self.num_attention_heads

    @classmethod
    def llama_7b(cls) -> "LlamaConfig":
        return cls()

    @classmethod
    def llama_13b(cls) -> "LlamaConfig":
        return cls(
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=40,
            num_attention_heads=40,
        )

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "LlamaConfig":
        """Reads a config.json; what it leaves out has transformers' default.

        Raises:
            ConfigError: for a configuration of another network.
        """
        check_model_type(mapping, "llama")
        rope = mapping.get("rope_parameters") or {}
        flat = {**mapping, **{key: rope[key] for key in rope if key in ("rope_theta", "rope_type")}}
        config = read_config(
            cls,
            flat,
            defaults={"vocab_size": 32000},
            supported={
                "hidden_act": "silu",
                "attention_bias": False,
                "mlp_bias": False,
                "rope_scaling": None,
                "rope_type": "default",
                "tie_word_embeddings": False,
            },
        )
        if (mapping.get("head_dim") or config.head_dim) != config.head_dim:
            raise ConfigError(
                f"head_dim {mapping['head_dim']} is not supported; it must be "
                f"hidden_size / num_attention_heads, {config.head_dim}"
            )
        if config.num_key_value_heads == config.num_attention_heads:
            config = dataclasses.replace(config, num_key_value_heads=None)
        return config

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for transformers and for `from_dict`."""
        return {"model_type": "llama", **write_config(self)}
