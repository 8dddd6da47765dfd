"""LoRAs of the tiny model in every layout that people share, made without the code under test."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from tests.weights import tiny

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"
QUERY = f"{BLOCK}.attn1.to_q"
ATTENTION = (
    *(QUERY, f"{BLOCK}.attn2.to_k", f"{BLOCK}.attn1.to_out.0"),
    "up_blocks.1.attentions.1.transformer_blocks.0.attn2.to_v",
)
DENSE = (f"{BLOCK}.ff.net.0.proj", f"{BLOCK}.ff.net.2", "down_blocks.0.resnets.0.time_emb_proj")
CONVOLUTIONS = (
    *("down_blocks.0.attentions.0.proj_in", "mid_block.attentions.0.proj_out"),
    *("down_blocks.0.resnets.0.conv1", "down_blocks.1.resnets.0.conv_shortcut"),
    *("down_blocks.0.downsamplers.0.conv", "mid_block.resnets.1.conv2"),
)
ENDS = ("conv_in", "conv_out", "time_embedding.linear_1", "up_blocks.0.upsamplers.0.conv")
TEXT_ATTENTION = (
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
)
TEXT_DENSE = ("text_model.encoder.layers.1.mlp.fc1",)

UNET = (*ATTENTION, *DENSE, *CONVOLUTIONS, *ENDS)
TEXT = (*TEXT_ATTENTION, *TEXT_DENSE)


class Layers(NamedTuple):
    """Down and up of some layers, by module, and the alpha of all of them."""

    products: dict[str, tuple[np.ndarray, np.ndarray]]
    alpha: float


def make(shapes: dict[str, tuple[int, ...]], names: Any, rank: int, alpha: float) -> Layers:
    """Random ones for the modules `names` of a network with weights of `shapes`."""
    rng = np.random.default_rng(rank)
    products = {}
    for name in names:
        out, *inside = shapes[f"{name}.weight"]
        up = rng.normal(0, 0.1, (out, rank, *[1] * (len(inside) - 1)))
        products[name] = rng.normal(0, 0.1, (rank, *inside)), up
    return Layers(
        {n: (d.astype(np.float32), u.astype(np.float32)) for n, (d, u) in products.items()}, alpha
    )


def changes(layers: Layers, alpha: float | None = None) -> dict[str, np.ndarray]:
    """alpha / rank * up @ down by module; alpha that of `layers`, or another."""
    alpha = layers.alpha if alpha is None else alpha
    return {
        name: alpha / len(down) * np.einsum("or,r...->o...", up.reshape(len(up), -1), down)
        for name, (down, up) in layers.products.items()
    }


def peft(unet: Layers, text: Layers) -> dict[str, np.ndarray]:
    return {
        f"{component}.{name}.lora_{letter}.weight": array
        for component, layers in (("unet", unet), ("text_encoder", text))
        for name, pair in layers.products.items()
        for letter, array in zip("AB", pair, strict=True)
    }


def diffusers(unet: Layers, text: Layers) -> dict[str, np.ndarray]:
    """As of version 0.20."""
    names = {"unet": ".lora.", "text_encoder": ".lora_linear_layer."}
    return {
        f"{component}.{name}{names[component]}{part}.weight": array
        for component, layers in (("unet", unet), ("text_encoder", text))
        for name, pair in layers.products.items()
        for part, array in zip(("down", "up"), pair, strict=True)
    }


def processors(unet: Layers, text: Layers) -> dict[str, np.ndarray]:
    """As of version 0.15: attention alone."""
    rules = {
        "unet": lambda name: re.sub(r"(attn\d)\.(to_\w+)(\.0)?$", r"\1.processor.\2_lora", name),
        "text_encoder": lambda name: re.sub(r"\.(\w+)_proj$", r".to_\1_lora", name),
    }
    return {
        f"{component}.{rules[component](name)}.{part}.weight": array
        for component, layers in (("unet", unet), ("text_encoder", text))
        for name, pair in layers.products.items()
        for part, array in zip(("down", "up"), pair, strict=True)
    }


def kohya(unet: Layers, text: Layers, rename: Any = lambda name: name) -> dict[str, np.ndarray]:
    tensors = {}
    for prefix, layers in (("lora_unet_", unet), ("lora_te_", text)):
        for name, (down, up) in layers.products.items():
            key = prefix + (rename(name) if prefix == "lora_unet_" else name).replace(".", "_")
            tensors[f"{key}.lora_down.weight"] = down
            tensors[f"{key}.lora_up.weight"] = up
            tensors[f"{key}.alpha"] = np.asarray(layers.alpha, np.float32)
    return tensors


def original_name(name: str, layers: int = 1, attending: Any = (1,)) -> str:
    """The original code's name of a module of a UNet; of the tiny one unless told otherwise.

    Args:
        layers: ResNets a block.
        attending: the up blocks with attention.
    """
    others = {f"up_blocks.{block}.attentions.0.norm.weight": None for block in attending}
    state = {f"{name}.weight": None} | others
    return next(iter(tiny.original_unet(state, layers))).removesuffix(".weight")


def write(path: Path, tensors: dict[str, np.ndarray], **metadata: str) -> Path:
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata or None)
    return path
