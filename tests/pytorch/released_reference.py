"""The released form of the reward condition as plain functions of its released tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = Mapping[str, Tensor]


def released_shapes(width: int, channels: int, features: int) -> dict[str, tuple[int, ...]]:
    """The reward tensors of the public checkpoint at other sizes.

    width is that of the text, channels that of the first convolution, features that of the three
    score encodings.
    """
    layers = [f"ca.attention.self.{name}" for name in ("query", "key", "value")]
    layers += ["ca.attention.output.dense", "ca.hidden_intermediate.dense", "ca.output.dense"]
    square = dict.fromkeys([*layers, "add_embedding2.linear_2"], (channels, channels))
    time = 4 * channels
    matrices = square | {
        "add_embedding.linear_1": (time, features),
        "add_embedding.linear_2": (time, time),
        "add_embedding2.linear_1": (channels, features),
        "text_linear": (channels, width),
        "text_linear2": (time, width),
        "proj_deal.proj_in": (channels, channels, 1, 1),
        "proj_deal.proj_out": (channels, channels, 1, 1),
    }
    norms = ("proj_deal.norm", "ca.attention.output.LayerNorm", "ca.output.LayerNorm")
    weights = matrices | dict.fromkeys(norms, (channels,))
    shapes = {f"{name}.weight": shape for name, shape in weights.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in weights.items()}


def random_tensors(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.randn(shape, generator=generator) / math.prod(shape[1:]) ** 0.5
        for name, shape in sorted(shapes.items())
    }


def forward(
    unet: Any,
    tensors: Tensors,
    sample: Tensor,
    timestep: Tensor,
    states: Tensor,
    scores: Tensor,
    pooled: Tensor,
    *,
    heads: int,
    groups: int,
) -> Tensor:
    """A diffusers UNet with the reward worked in by hand, block by block."""
    features = tensors["add_embedding.linear_1.weight"].shape[1]
    encoded = encode_scores(scores, features // 3)
    tokens = torch.stack(
        [_mlp(tensors, "add_embedding2", encoded), _linear(tensors, "text_linear", pooled)], 1
    )
    time = unet.time_embedding(unet.time_proj(timestep))
    time = time + _mlp(tensors, "add_embedding", encoded) + _linear(tensors, "text_linear2", pooled)
    x = encode_reward(tensors, unet.conv_in(sample), tokens, heads, groups)

    skips = [x]
    for block in unet.down_blocks:
        x, made = _call(block, states, hidden_states=x, temb=time)
        skips += made
    x = _call(unet.mid_block, states, hidden_states=x, temb=time)
    for block in unet.up_blocks:
        taken = tuple(skips[-len(block.resnets) :])
        del skips[-len(block.resnets) :]
        size = skips[-1].shape[2:] if skips else None
        x = _call(
            block,
            states,
            hidden_states=x,
            temb=time,
            res_hidden_states_tuple=taken,
            upsample_size=size,
        )
    return unet.conv_out(F.silu(unet.conv_norm_out(x)))


def encode_scores(scores: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of the raw scores for each perspective."""
    half = width // 2
    angles = scores[..., None] * 10000.0 ** (-torch.arange(half) / half)
    return torch.cat([angles.cos(), angles.sin()], -1).flatten(1)


def encode_reward(tensors: Tensors, x: Tensor, tokens: Tensor, heads: int, groups: int) -> Tensor:
    """The projections around one BERT layer that attends from the noise to the tokens."""
    b, c, h, w = x.shape

    def parameters(name: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def layer_norm(name: str, z: Tensor) -> Tensor:
        return F.layer_norm(z, (c,), *parameters(name), eps=1e-12)

    z = F.group_norm(x, groups, *parameters("proj_deal.norm"), eps=1e-6)
    z = F.conv2d(z, *parameters("proj_deal.proj_in")).permute(0, 2, 3, 1).reshape(b, h * w, c)
    query, key, value = (
        _linear(tensors, f"ca.attention.self.{name}", source).reshape(b, -1, heads, c // heads)
        for name, source in (("query", z), ("key", tokens), ("value", tokens))
    )
    logits = torch.einsum("bnkd,bmkd->bknm", query, key) / math.sqrt(c // heads)
    seen = torch.einsum("bknm,bmkd->bnkd", logits.softmax(-1), value).reshape(b, h * w, c)
    seen = _linear(tensors, "ca.attention.output.dense", seen)
    z = layer_norm("ca.attention.output.LayerNorm", seen + z)
    hidden = F.gelu(_linear(tensors, "ca.hidden_intermediate.dense", z))
    z = layer_norm("ca.output.LayerNorm", _linear(tensors, "ca.output.dense", hidden) + z)
    z = z.reshape(b, h, w, c).permute(0, 3, 1, 2)
    return F.conv2d(z, *parameters("proj_deal.proj_out")) + x


def _linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _mlp(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    return _linear(tensors, f"{name}.linear_2", F.silu(_linear(tensors, f"{name}.linear_1", x)))


def _call(block: Any, states: Tensor, **arguments: Any) -> Any:
    if getattr(block, "has_cross_attention", False):
        arguments["encoder_hidden_states"] = states
    return block(**arguments)
