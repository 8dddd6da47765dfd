"""PyTorch's side of SmartEdit's QFormer and BIM, from transformers' layers of the same arithmetic.

Blip2's QFormer is SmartEdit's but for two names; Segment Anything's two-way transformer and
positions are its BIM's but for the norms' names. What joins them is written here.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate
from transformers import Blip2QFormerConfig, Blip2QFormerModel
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamPositionalEmbedding, SamTwoWayTransformer

from mre_jax.models.bim import BIMConfig
from mre_jax.models.qformer import QFormerConfig
from tests.models.smartedit_sizes import BIM, QFORMER
from tests.parity import randomize_torch


class QFormerReference(nn.Module):
    """Queries through Blip2's QFormer."""

    def __init__(self, config: QFormerConfig = QFORMER):
        super().__init__()
        self.query_tokens = nn.Parameter(torch.zeros(1, config.query_length, config.hidden_size))
        settings = Blip2QFormerConfig(
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            cross_attention_frequency=config.cross_attention_freq,
            encoder_hidden_size=config.encoder_width,
            layer_norm_eps=1e-12,
            hidden_act="gelu",
        )
        settings._attn_implementation = "eager"
        self.qformer = Blip2QFormerModel(settings)
        randomize_torch(self).eval()

    def forward(self, states: Any, mask: Any = None) -> Any:
        queries = self.query_tokens.expand(len(states), -1, -1)
        return self.qformer(
            queries, encoder_hidden_states=states, encoder_attention_mask=mask
        ).last_hidden_state

    def official(self) -> dict[str, Any]:
        """The state dict under our names, which are the official ones without their prefix."""
        swaps = [
            ("qformer.layernorm.", "embeddings.LayerNorm."),
            ("qformer.", ""),
            (".attention.attention.", ".attention.self."),
            (".crossattention.attention.", ".crossattention.self."),
        ]
        return _renamed(self.state_dict(), swaps)


class BIMReference(nn.Module):
    """The bidirectional interaction module, in the official order: resize, then convolution."""

    def __init__(self, config: BIMConfig = BIM):
        super().__init__()
        width = config.embedding_dim
        settings = SamMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=config.mlp_dim,
            num_hidden_layers=config.depth,
            num_attention_heads=config.num_heads,
            attention_downsample_rate=config.attention_downsample_rate,
            layer_norm_eps=1e-5,
            hidden_act="relu",
        )
        settings._attn_implementation = "eager"
        self.modulate_head = nn.Linear(config.text_width, width)
        self.pe_layer = SamPositionalEmbedding(SamVisionConfig(num_pos_feats=width // 2, scale=1))
        self.modulate_transformer = SamTwoWayTransformer(settings)
        self.dimension_reduction_head_zeroconv = nn.Conv2d(width, config.out_channels, 1)
        self.dimension_reduction_head_qformer_out = nn.Linear(width, config.text_width)
        randomize_torch(self, seed=1).eval()

    def forward(self, text: Any, patches: Any, height: int, width: int) -> tuple[Any, Any]:
        """The change of the text, [b t d], and v' of a grid as NCHW."""
        batch, count, channels = patches.shape
        side = int(count**0.5)
        image = patches.transpose(1, 2).reshape(batch, channels, side, side)
        centres = (torch.arange(side) + 0.5) / side
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        positions = self.pe_layer(torch.stack([x, y], -1)).permute(2, 0, 1)[None]
        queries, keys = self.modulate_transformer(
            self.modulate_head(text)[:, None], image, positions.expand(batch, -1, -1, -1), None
        )
        keys = keys[:, 0].transpose(1, 2).reshape(batch, channels, side, side)
        grid = interpolate(keys, (height, width), mode="bilinear", align_corners=False)
        change = self.dimension_reduction_head_qformer_out(queries[:, 0])
        return change, self.dimension_reduction_head_zeroconv(grid)

    def official(self) -> dict[str, Any]:
        """The state dict under the official names."""
        swaps = [
            (".layer_norm_final_attn.", ".norm_final_attn."),
            (".layer_norm", ".norm"),
            (".positional_embedding", ".positional_encoding_gaussian_matrix"),
        ]
        return _renamed(self.state_dict(), swaps)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _renamed(state: dict[str, Any], swaps: list[tuple[str, str]]) -> dict[str, Any]:
    renamed = {}
    for name, tensor in state.items():
        for theirs, ours in swaps:
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return renamed
