"""The sizes of a UNet of Stable Diffusion 1.x's family, as diffusers' config.json names them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.models.config_dict import check_divides, read_config, write_config
from mre_jax.reward.config import RewardConfig

_DOWN_TYPES = ("CrossAttnDownBlock2D", "DownBlock2D")
_UP_TYPES = ("CrossAttnUpBlock2D", "UpBlock2D")

# Keys of diffusers' config that would change the network, and the value that leaves it as it is
# here. Null always does.
_SUPPORTED: dict[str, Any] = {
    "act_fn": "silu",
    "addition_embed_type": None,
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dropout": 0.0,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "mid_block_only_cross_attention": False,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "num_attention_heads": None,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "reverse_transformer_layers_per_block": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "time_embedding_dim": None,
    "time_embedding_type": "positional",
    "timestep_post_act": None,
    "transformer_layers_per_block": 1,
}


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """Diffusers' names and meanings; the defaults are InstructPix2Pix's.

    Attributes:
        attention_head_dim: the *number* of attention heads, as in every SD1.x and SD2.x config,
            for all blocks or one per down block.
        upcast_attention: attention in float32 whatever the compute dtype (SD2.1).
        reward: the reward condition; None is plain InstructPix2Pix.

    Raises:
        ConfigError: if the sizes do not fit together.

    Example:
        >>> config = UNetConfig.from_dict({"in_channels": 8, "cross_attention_dim": 768})
        >>> config.heads, config.time_width
        ((8, 8, 8, 8), 1280)
    """

    sample_size: int | tuple[int, int] | None = 64
    in_channels: int = 8
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D")
    up_block_types: tuple[str, ...] = ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3)
    layers_per_block: int = 2
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 768
    use_linear_projection: bool = False
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    upcast_attention: bool = False
    reward: RewardConfig | None = None

    def __post_init__(self) -> None:
        for key in _COUNTS:
            if (count := getattr(self, key)) < 1:
                raise ConfigError(f"{key} {count} is not supported; it must be 1 or more")
        blocks = len(self.block_out_channels)
        for key, kinds in (("down_block_types", _DOWN_TYPES), ("up_block_types", _UP_TYPES)):
            types = getattr(self, key)
            if len(types) != blocks:
                raise ConfigError(
                    f"{key} has {len(types)} entries; give one for each of the {blocks} "
                    "block_out_channels"
                )
            for kind in types:
                if kind not in kinds:
                    raise ConfigError(f"{key} {kind!r} is not supported; use {' or '.join(kinds)}")
        if len(self.heads) != blocks:
            raise ConfigError(
                f"attention_head_dim {self.attention_head_dim} must be one number or {blocks}"
            )
        for channels, heads in zip(self.block_out_channels, self.heads, strict=True):
            check_divides("attention_head_dim", heads, "block_out_channels", channels)
            check_divides("norm_num_groups", self.norm_num_groups, "block_out_channels", channels)
        if self.reward is not None and self.reward.enabled and self.reward.attention:
            heads, width = self.reward.num_attention_heads, self.block_out_channels[0]
            check_divides("reward.num_attention_heads", heads, "block_out_channels", width)

    @property
    def heads(self) -> tuple[int, ...]:
        """The number of attention heads of each down block; the up blocks mirror them."""
        if isinstance(self.attention_head_dim, int):
            return (self.attention_head_dim,) * len(self.block_out_channels)
        return self.attention_head_dim

    @property
    def time_width(self) -> int:
        """The width of the time embedding."""
        return 4 * self.block_out_channels[0]

    @property
    def block_channels(self) -> tuple[int, ...]:
        """The output channels of every block in order: down, mid, up."""
        widths = self.block_out_channels
        return (*widths, widths[-1], *reversed(widths))

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "UNetConfig":
        """Reads diffusers' config.json; what it leaves out or nulls has diffusers' default.

        Raises:
            ConfigError: for a value that asks for another network than this one.
        """
        values = {k: _single(v, k) if k in _SAME_IN_ALL_BLOCKS else v for k, v in mapping.items()}
        if isinstance(values.get("reward"), Mapping):
            values["reward"] = RewardConfig.from_dict(values["reward"])
        return read_config(cls, values, defaults=_DIFFUSERS_DEFAULTS, supported=_SUPPORTED)

    def to_dict(self) -> dict[str, Any]:
        """Keys and values of a config.json, for diffusers and for `from_dict`."""
        values = write_config(self)
        reward = values.pop("reward")
        return values if reward is None else {**values, "reward": reward.to_dict()}


# Where diffusers' default is not that of InstructPix2Pix.
_DIFFUSERS_DEFAULTS = {"sample_size": None, "in_channels": 4, "cross_attention_dim": 1280}

_COUNTS = ("in_channels", "out_channels", "layers_per_block", "cross_attention_dim")

_SAME_IN_ALL_BLOCKS = {*_SUPPORTED, "layers_per_block", "cross_attention_dim"}


def _single(value: Any, key: str) -> Any:
    """The one value of a list that repeats it, since diffusers takes most sizes per block too."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    if len(set(value)) != 1:
        raise ConfigError(f"{key} {list(value)} is not supported; it must be equal in all blocks")
    return value[0]
