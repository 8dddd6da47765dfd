"""LLaVA's map from CLIP's patches to the width of its language model (Liu et al. 2023)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import nnx

from mre_jax.models.config_dict import check_model_type, read_config, write_config
from mre_jax.models.layers import Compute


@dataclasses.dataclass(frozen=True)
class ProjectorConfig:
    """Widths of patches and of the language model's states; the defaults are SmartEdit-7B's.

    Example:
        >>> ProjectorConfig.from_dict({"hidden_size": 5120}).mm_hidden_size
        1024
    """

    mm_hidden_size: int = 1024
    hidden_size: int = 4096

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "ProjectorConfig":
        """Reads a config.json; what it leaves out has SmartEdit-7B's value.

        Raises:
            ConfigError: for a configuration of another network.
        """
        check_model_type(mapping, "smartedit_projector")
        return read_config(cls, mapping, defaults={}, supported={})

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for `from_dict`."""
        return {"model_type": "smartedit_projector", **write_config(self)}


class Projector(nnx.Linear):
    """One dense layer: [b n d] patches to [b n e] states."""

    def __init__(self, config: ProjectorConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        super().__init__(config.mm_hidden_size, config.hidden_size, dtype=compute.dtype, rngs=rngs)
