"""A small Stable Diffusion in PyTorch's files, and its copy in the original layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.weights import convert as conversion
from mre_jax.weights.files.source import SafetensorsFile
from mre_jax.weights.opening import model_at

UNET = {
    "sample_size": 8,
    "in_channels": 8,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 8,
    "cross_attention_dim": 64,
}
VAE = {
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "layers_per_block": 1,
    "latent_channels": 4,
    "sample_size": 16,
}
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "max_position_embeddings": 16,
    "vocab_size": 40,
    "bos_token_id": 38,
    "eos_token_id": 39,
    "pad_token_id": 39,
}


def convert(*paths: Any, **options: Any) -> conversion.ConvertReport:
    return conversion.convert(conversion.ConvertSpec(*paths, **options))


def stored(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file."""
    source = SafetensorsFile(path)
    return {name: source.read(name) for name in source.tensors}


def weights(folder: Any, lora: Any, component: str = "unet") -> dict[str, np.ndarray]:
    """The tensors of a network with a LoRA merged into them."""
    with model_at(folder, lora=lora, components=(component,)) as opened:
        source = opened.components[component].source
        return {name: source.read(name) for name in source.tensors}


def make_unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return randomized(UNet2DConditionModel, **{**UNET, **changes})


def make_vae() -> Any:
    from diffusers import AutoencoderKL

    return randomized(AutoencoderKL, **VAE)


def make_text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return randomized(CLIPTextModel, CLIPTextConfig(**TEXT))


def randomized(model_class: Any, *args: Any, **kwargs: Any) -> Any:
    """Always the same model, with no parameter at 0 or 1 that could be swapped unnoticed."""
    import torch

    from tests.parity import randomize_torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomize_torch(model_class(*args, **kwargs)).eval()


def write_tokenizer(folder: Path) -> None:
    """A CLIP tokenizer that knows the letters."""
    folder.mkdir(parents=True)
    letters = "abcdefghijklmnopqrs"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {word: i for i, word in enumerate(words)}
    vocabulary |= {"<|startoftext|>": 38, "<|endoftext|>": 39}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": 16,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )


def write_pipeline(folder: Path, unet: Any = None) -> Path:
    """A diffusers folder as PyTorch's libraries save it."""
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionInstructPix2PixPipeline
    from transformers import CLIPTokenizer

    write_tokenizer(folder / "tokenizer")
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=make_vae(),
        text_encoder=make_text_encoder(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=unet or make_unet(),
        scheduler=EulerAncestralDiscreteScheduler(steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def original_unet(state: dict[str, Any], layers: int) -> dict[str, Any]:
    """A UNet's state dict under the names of the original code, for `layers` ResNets a block."""
    swaps = [
        *(
            ("time_embedding.linear_1.", "time_embed.0."),
            ("time_embedding.linear_2.", "time_embed.2."),
        ),
        *(("conv_in.", "input_blocks.0.0."), ("conv_norm_out.", "out.0."), ("conv_out.", "out.2.")),
        *(("mid_block.resnets.0.", "middle_block.0."), ("mid_block.resnets.1.", "middle_block.2.")),
        ("mid_block.attentions.0.", "middle_block.1."),
    ]
    for level in range(4):
        for layer in range(layers + 1):
            down, up = level * (layers + 1) + layer + 1, level * (layers + 1) + layer
            swaps += [
                (f"down_blocks.{level}.resnets.{layer}.", f"input_blocks.{down}.0."),
                (f"down_blocks.{level}.attentions.{layer}.", f"input_blocks.{down}.1."),
                (f"up_blocks.{level}.resnets.{layer}.", f"output_blocks.{up}.0."),
                (f"up_blocks.{level}.attentions.{layer}.", f"output_blocks.{up}.1."),
            ]
        last = (level + 1) * (layers + 1)
        attends = any(name.startswith(f"up_blocks.{level}.attentions") for name in state)
        swaps += [
            (f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{last}.0.op."),
            (
                f"up_blocks.{level}.upsamplers.0.conv.",
                f"output_blocks.{last - 1}.{2 if attends else 1}.conv.",
            ),
        ]
    in_resnet = [
        *(("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("time_emb_proj", "emb_layers.1")),
        *(("norm2", "out_layers.0"), ("conv2", "out_layers.3")),
        ("conv_shortcut", "skip_connection"),
    ]
    renamed = {}
    for name, tensor in state.items():
        if ".resnets." in name:
            for ours, theirs in in_resnet:
                name = name.replace(ours, theirs)
        for ours, theirs in swaps:
            if name.startswith(ours):
                name = theirs + name[len(ours) :]
                break
        renamed[name] = tensor
    return renamed


def original_vae(state: dict[str, Any], levels: int) -> dict[str, Any]:
    """A VAE's state dict under the names of the original code."""
    swaps = [("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut")]
    swaps += [(f"mid_block.resnets.{i}.", f"mid.block_{i + 1}.") for i in range(2)]
    attention = "mid_block.attentions.0."
    swaps += [(f"{attention}group_norm", "mid.attn_1.norm")]
    swaps += [(f"{attention}to_{letter}.", f"mid.attn_1.{letter}.") for letter in "qkv"]
    swaps += [(f"{attention}to_out.0", "mid.attn_1.proj_out")]
    for level in range(levels):
        swaps += [
            (f"down_blocks.{level}.resnets", f"down.{level}.block"),
            (f"down_blocks.{level}.downsamplers.0", f"down.{level}.downsample"),
            (f"up_blocks.{level}.resnets", f"up.{levels - 1 - level}.block"),
            (f"up_blocks.{level}.upsamplers.0", f"up.{levels - 1 - level}.upsample"),
        ]
    renamed = {}
    for name, tensor in state.items():
        if ".attentions." in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        renamed[name] = tensor
    return renamed


def original_checkpoint(unet: Any, vae: Any, text_encoder: Any, average: float | None) -> dict:
    """A training checkpoint of the original code; its EMA is `average` times the weights."""
    import torch

    raw = original_unet(unet.state_dict(), unet.config.layers_per_block)
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in raw.items()}
    if average is not None:
        state |= {
            "model_ema.diffusion_model" + name.replace(".", ""): tensor * average
            for name, tensor in raw.items()
        }
        state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    levels = len(vae.config.block_out_channels)
    for name, tensor in original_vae(vae.state_dict(), levels).items():
        state[f"first_stage_model.{name}"] = tensor
    for name, tensor in text_encoder.state_dict().items():
        state[f"cond_stage_model.transformer.text_model.{name}"] = tensor
    positions = torch.arange(text_encoder.config.max_position_embeddings)[None]
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = positions
    for name in ("betas", "alphas_cumprod", "posterior_mean_coef2", "logvar"):
        state[name] = torch.linspace(0, 1, 1000)
    state["scale_factor"] = torch.tensor(0.18215)
    return {"state_dict": state, "global_step": 22000}
