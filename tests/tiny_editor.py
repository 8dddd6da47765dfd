"""A small InstructPix2Pix with random weights, made by PyTorch.

It has every part and file of the real one, and edits nothing sensibly.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerAncestralDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mre_jax.pytorch.reward_unet import RewardUNet2DConditionModel
from mre_jax.toyworld.pretraining.tokenizer import tokenizer_files

WIDTH = 32
_LATENT_CHANNELS = 4


def make_tiny_editor(
    folder: str | Path, *, reward: dict[str, Any] | None = None, seed: int = 0
) -> Any:
    """Makes a StableDiffusionInstructPix2PixPipeline and saves it as a diffusers folder.

    Args:
        folder: new.
        reward: `RewardConfig.to_dict()`; None is plain InstructPix2Pix.
        seed: of the weights.
    """
    torch.manual_seed(seed)
    folder = Path(folder)
    tokenizer = make_byte_tokenizer(folder / "tokenizer")
    pipeline: Any = StableDiffusionInstructPix2PixPipeline(
        vae=_vae(),
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=_unet(reward),
        scheduler=EulerAncestralDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for module in (pipeline.vae, pipeline.text_encoder, pipeline.unet):
        _spread(module.eval())
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return pipeline


def make_byte_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of one token a byte, without merges."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in tokenizer_files((), 77).items():
        (folder / Path(path).name).write_bytes(content)
    return CLIPTokenizer.from_pretrained(str(folder))


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        latent_channels=_LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=64,
    )


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _unet(reward: dict[str, Any] | None) -> Any:
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 2 * _LATENT_CHANNELS,
        "out_channels": _LATENT_CHANNELS,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "attention_head_dim": 4,
        "cross_attention_dim": WIDTH,
        "norm_num_groups": 8,
    }
    if reward is None:
        return UNet2DConditionModel(**sizes)
    return RewardUNet2DConditionModel(**sizes, reward=reward)


@torch.no_grad()
def _spread(module: torch.nn.Module) -> None:
    """Moves biases and scales off 0 and 1, where a fault in them would not show."""
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
        elif not parameter.any():
            parameter.add_(0.02 * torch.randn_like(parameter))
