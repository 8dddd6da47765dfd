"""Configurations of SD1.x models from the shapes of their tensors, for files that come without.

What shapes do not show is that of the SD1.x family: the number of attention heads of the UNet (8),
groups of the normalisations (32), and CLIP's heads of width 64 with quick-GELU.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mre_jax.errors import DataError
from mre_jax.reward.config import RewardConfig
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.names.aliases import from_released

Tensors = Mapping[str, TensorInfo]


def config(
    component: str,
    tensors: Tensors,
    origin: str,
    *,
    like: Mapping[str, Any] | None = None,
    scaling_factor: float | None = None,
) -> dict[str, Any]:
    """A config.json for the tensors of a component under diffusers' names.

    Args:
        component: "unet", "vae" or "text_encoder".
        origin: what error messages call the tensors.
        like: the configuration of a related model, for what shapes do not show.
        scaling_factor: factor on a VAE's latents, where it is known.

    Raises:
        DataError: when a tensor is missing whose shape is needed.
    """
    if component == "vae":
        made = vae_config(tensors, origin, scaling_factor)
    else:
        made = {"unet": unet_config, "text_encoder": text_encoder_config}[component](
            tensors, origin
        )
    stated = scaling_factor is not None
    unseen = {key for key in _UNSEEN[component] if not (stated and key == "scaling_factor")}
    if any(name.startswith("reward.") for name in tensors):
        unseen |= {"_class_name", "reward"}
    return {**made, **{key: value for key, value in (like or {}).items() if key in unseen}}


def unet_config(tensors: Tensors, origin: str) -> dict[str, Any]:
    """A config.json for a UNet's tensors under diffusers' names."""
    levels = _count(tensors, r"down_blocks\.(\d+)\.")
    attends = [f"down_blocks.{i}.attentions.0.norm.weight" in tensors for i in range(levels)]
    middle = "mid_block.attentions.0"
    context = _shape(tensors, f"{middle}.transformer_blocks.0.attn2.to_k.weight", origin)[1]
    projection = _shape(tensors, f"{middle}.proj_in.weight", origin)
    return {
        "_class_name": "UNet2DConditionModel",
        "act_fn": "silu",
        "attention_head_dim": 8,
        "block_out_channels": [
            _shape(tensors, f"down_blocks.{i}.resnets.0.conv1.weight", origin)[0]
            for i in range(levels)
        ],
        "center_input_sample": False,
        "cross_attention_dim": context,
        "down_block_types": [
            "CrossAttnDownBlock2D" if with_attention else "DownBlock2D"
            for with_attention in attends
        ],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": _shape(tensors, "conv_in.weight", origin)[1],
        "layers_per_block": _count(tensors, r"down_blocks\.0\.resnets\.(\d+)\."),
        "mid_block_scale_factor": 1,
        "norm_eps": 1e-05,
        "norm_num_groups": 32,
        "out_channels": _shape(tensors, "conv_out.weight", origin)[0],
        "sample_size": 64,
        "up_block_types": [
            "CrossAttnUpBlock2D" if with_attention else "UpBlock2D"
            for with_attention in reversed(attends)
        ],
        "use_linear_projection": len(projection) == 2,
    }


def vae_config(tensors: Tensors, origin: str, scaling_factor: float | None) -> dict[str, Any]:
    """A config.json for a VAE's tensors under diffusers' names."""
    levels = _count(tensors, r"encoder\.down_blocks\.(\d+)\.")
    return {
        "_class_name": "AutoencoderKL",
        "act_fn": "silu",
        "block_out_channels": [
            _shape(tensors, f"encoder.down_blocks.{i}.resnets.0.conv1.weight", origin)[0]
            for i in range(levels)
        ],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "in_channels": _shape(tensors, "encoder.conv_in.weight", origin)[1],
        "latent_channels": _shape(tensors, "decoder.conv_in.weight", origin)[1],
        "layers_per_block": _count(tensors, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "norm_num_groups": 32,
        "out_channels": _shape(tensors, "decoder.conv_out.weight", origin)[0],
        "sample_size": 256,
        "scaling_factor": 0.18215 if scaling_factor is None else scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def text_encoder_config(tensors: Tensors, origin: str) -> dict[str, Any]:
    """A config.json for a CLIP text encoder's tensors."""
    table = _shape(tensors, "text_model.embeddings.token_embedding.weight", origin)
    vocabulary, width = table[:2]
    fc1 = _shape(tensors, "text_model.encoder.layers.0.mlp.fc1.weight", origin)
    positions = _shape(tensors, "text_model.embeddings.position_embedding.weight", origin)
    return {
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        # 2 stands for CLIP's rule to pool at the highest token, whatever the tokenizer's own.
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": width,
        "intermediate_size": fc1[0],
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": positions[0],
        "model_type": "clip_text_model",
        "num_attention_heads": max(1, width // 64),
        "num_hidden_layers": _count(tensors, r"text_model\.encoder\.layers\.(\d+)\."),
        "pad_token_id": 1,
        "projection_dim": width,
        "vocab_size": vocabulary,
    }


def reward_config(tensors: Tensors) -> RewardConfig | None:
    """The reward condition that the tensors of a UNet under released names belong to.

    Returns:
        None when there are no such tensors.
    """
    ours = {from_released(name): info for name, info in tensors.items()}
    parts = {name.split(".")[1] for name in ours if name not in tensors}
    if not parts:
        return None
    score_inputs = [
        info.shape[1]
        for name, info in ours.items()
        if name.endswith((".score_time.linear_1.weight", ".score_token.linear_1.weight"))
        and len(info.shape) == 2
    ]
    reward = RewardConfig(
        form="released",
        score=not parts.isdisjoint(("score_time", "score_token")),
        text=not parts.isdisjoint(("text_time", "text_token")),
        attention="encoder" in parts,
        addition=not parts.isdisjoint(("score_time", "text_time")),
    )
    if not score_inputs:
        return reward
    return dataclasses.replace(reward, score_width=score_inputs[0] // len(PERSPECTIVES))


def _count(names: Iterable[str], pattern: str) -> int:
    """How many numbers the pattern's group takes at the start of the names."""
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def _shape(tensors: Tensors, name: str, origin: str) -> tuple[int, ...]:
    """The shape of a weight: of a convolution, a dense layer or a table."""
    if name not in tensors or len(tensors[name].shape) < 2:
        raise DataError(f"{origin} lacks {name}; it is not a model of the SD1.x family")
    return tensors[name].shape


# What the shapes of the tensors do not show.
_UNSEEN = {
    "unet": (
        *("act_fn", "attention_head_dim", "num_attention_heads", "flip_sin_to_cos", "freq_shift"),
        *("norm_eps", "norm_num_groups", "sample_size", "upcast_attention"),
    ),
    "vae": ("act_fn", "norm_num_groups", "sample_size", "scaling_factor", "force_upcast"),
    "text_encoder": (
        *("hidden_act", "layer_norm_eps", "num_attention_heads"),
        *("bos_token_id", "eos_token_id", "pad_token_id"),
    ),
}
