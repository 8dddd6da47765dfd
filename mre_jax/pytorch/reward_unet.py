"""The reward UNet in PyTorch: diffusers' UNet with the reward condition hooked into its forward.

It loads the `unet` folder that `mre_jax` exports, and its parameters have that folder's names.
The equations and the two forms are explained in `mre_jax.models.reward`.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from mre_jax.errors import ConfigError
from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.config import RELEASED_NAMES, RewardConfig
from mre_jax.reward.scores import PERSPECTIVES


class _Features(NamedTuple):
    """Tokens [b m c], an addition [b e] to the time embedding, one [b c] for each block."""

    tokens: Tensor | None
    time: Tensor | None
    blocks: tuple[Tensor, ...]


class _RewardAttention(nn.Module):
    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.dense = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels, eps=1e-12)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        projected = self.query(x), self.key(tokens), self.value(tokens)
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in projected)
        out = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.norm(self.dense(out.transpose(1, 2).flatten(-2)) + x)


class _RewardMLP(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.linear_1 = nn.Linear(channels, channels)
        self.linear_2 = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear_2(nn.functional.gelu(self.linear_1(x))) + x)


class _RewardEncoder(nn.Module):
    """CA of the paper's Eq. 2 over a feature map [b c h w]."""

    def __init__(self, config: UNetConfig, heads: int):
        super().__init__()
        channels = config.block_out_channels[0]
        self.norm = nn.GroupNorm(config.norm_num_groups, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.attention = _RewardAttention(channels, heads)
        self.mlp = _RewardMLP(channels)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        z = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        z = self.mlp(self.attention(z, tokens))
        return x + self.proj_out(z.transpose(1, 2).unflatten(2, x.shape[2:]))


class _Reward(nn.Module):
    """What all forms share; each adds its own layers and its `forward`.

    Attributes:
        reads_states: it uses the states of the reward text, not only their pooled one.
    """

    reads_states = False

    def __init__(self, config: UNetConfig, reward: RewardConfig):
        super().__init__()
        self.config, self.reward = config, reward
        if reward.attention:
            self.encoder = _RewardEncoder(config, reward.num_attention_heads)

    def encode(self, scores: Tensor, dtype: torch.dtype) -> Tensor:
        """Concat[PE(S_f), PE(S_p), PE(S_q)] of Eq. 6; 0 for a perspective that is off."""
        waves = get_timestep_embedding(
            scores.flatten(),
            self.reward.score_width,
            flip_sin_to_cos=self.config.flip_sin_to_cos,
            downscale_freq_shift=self.config.freq_shift,
        )
        counts = torch.tensor([name in self.reward.perspectives for name in PERSPECTIVES])
        waves = waves.unflatten(0, (-1, len(PERSPECTIVES))) * counts.to(waves)[:, None]
        return waves.flatten(1).to(dtype)


class _PaperReward(_Reward):
    reads_states = True

    def __init__(self, config: UNetConfig, reward: RewardConfig):
        super().__init__(config, reward)
        width = config.cross_attention_dim
        if reward.score:
            self.score = TimestepEmbedding(len(PERSPECTIVES) * reward.score_width, width)
        self.type_embedding = nn.Embedding(2, width)
        if reward.attention:
            self.linear_1 = nn.Linear(width, config.block_out_channels[0])
            _zero(self.encoder.proj_out)
        if reward.addition:
            layers = [nn.Linear(width, channels) for channels in config.block_channels]
            self.linear_2 = nn.ModuleList(map(_zero, layers))

    def forward(self, scores: Tensor, states: Tensor, pooled: Tensor) -> _Features:
        score_type, text_type = self.type_embedding.weight
        tokens, vectors = [], []
        if self.reward.score:
            score = self.score(self.encode(scores, score_type.dtype)) + score_type
            tokens.append(score[:, None])
            vectors.append(score)
        if self.reward.text:
            if self.reward.attention:
                tokens.append(states.to(text_type) + text_type)
            vectors.append(pooled.to(text_type) + text_type)
        summary = torch.stack(vectors).sum(0)
        return _Features(
            self.linear_1(torch.cat(tokens, 1)) if self.reward.attention else None,
            None,
            tuple(layer(summary) for layer in self.linear_2) if self.reward.addition else (),
        )


class _ReleasedReward(_Reward):
    def __init__(self, config: UNetConfig, reward: RewardConfig):
        super().__init__(config, reward)
        width, channels = config.cross_attention_dim, config.block_out_channels[0]
        features = len(PERSPECTIVES) * reward.score_width
        if reward.score and reward.addition:
            self.score_time = TimestepEmbedding(features, config.time_width)
        if reward.text and reward.addition:
            self.text_time = nn.Linear(width, config.time_width)
        if reward.score and reward.attention:
            self.score_token = TimestepEmbedding(features, channels)
        if reward.text and reward.attention:
            self.text_token = nn.Linear(width, channels)

    def forward(self, scores: Tensor, states: Tensor, pooled: Tensor) -> _Features:
        dtype = next(self.parameters()).dtype
        tokens, times = [], []
        if self.reward.score:
            encoded = self.encode(scores, dtype)
            tokens += [self.score_token(encoded)] if self.reward.attention else []
            times += [self.score_time(encoded)] if self.reward.addition else []
        if self.reward.text:
            pooled = pooled.to(dtype)
            tokens += [self.text_token(pooled)] if self.reward.attention else []
            times += [self.text_time(pooled)] if self.reward.addition else []
        return _Features(
            torch.stack(tokens, 1) if tokens else None,
            torch.stack(times).sum(0) if times else None,
            (),
        )


_FORMS: dict[str, type[_Reward]] = {"paper": _PaperReward, "released": _ReleasedReward}


class RewardUNet2DConditionModel(UNet2DConditionModel):
    """diffusers' UNet2DConditionModel with a reward condition; its other arguments are diffusers'.

    Args:
        reward: `RewardConfig.to_dict()`, as the exported config.json has it under `reward`; None
            is the plain UNet.

    Raises:
        ConfigError: if the sizes or the reward settings are not supported.
    """

    def __init__(self, *, reward: Mapping[str, Any] | None = None, **unet: Any):
        super().__init__(**unet)
        self.register_to_config(reward=None if reward is None else dict(reward))
        config = UNetConfig.from_dict(self.config)
        # In a tuple the module is not registered: the released form has other names for its parts.
        self._reward: tuple[_Reward, ...] = ()
        if config.reward is None or not config.reward.enabled:
            return
        form = config.reward.form
        if form not in _FORMS:
            raise ConfigError(f"reward.form {form!r} has no counterpart in PyTorch yet")
        condition = _FORMS[form](config, config.reward)
        self._reward = (condition,)
        if form == "released":
            _attach_released(self, condition)
        else:
            self.reward = condition

    # diffusers reads the names of the settings here.
    __init__.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *inspect.signature(UNet2DConditionModel.__init__).parameters.values(),
            inspect.Parameter("reward", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )

    def __getattr__(self, name: str) -> Any:
        # The module of this name, which diffusers would hide behind the setting of this name.
        if name == "reward":
            return nn.Module.__getattr__(self, name)
        return super().__getattr__(name)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float | int,
        encoder_hidden_states: Tensor,
        *args: Any,
        reward_scores: Tensor | None = None,
        reward_text_states: Tensor | None = None,
        reward_text_pooled: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """diffusers' forward; without any of the reward arguments exactly that.

        Args:
            reward_scores: [b 3] in 0 to 5: following, preserving, quality.
            reward_text_states: [b t d], the text encoder's last hidden state for the reward text.
            reward_text_pooled: [b d], its pooled output.

        Raises:
            ValueError: if only a part of the reward that this model uses is given.
        """
        inputs = (reward_scores, reward_text_states, reward_text_pooled)
        with contextlib.ExitStack() as hooks:
            if self._reward and any(tensor is not None for tensor in inputs):
                self._check(*inputs)
                for module, hook in self._hooks(self._reward[0](*inputs)):
                    hooks.enter_context(module.register_forward_hook(hook))
            return super().forward(sample, timestep, encoder_hidden_states, *args, **kwargs)

    def _check(self, scores: Tensor | None, states: Tensor | None, pooled: Tensor | None) -> None:
        reward = self._reward[0].reward
        reads_states = reward.text and self._reward[0].reads_states and reward.attention
        needed = {
            "reward_scores": (reward.score, scores),
            "reward_text_states": (reads_states, states),
            "reward_text_pooled": (reward.text, pooled),
        }
        missing = [name for name, (used, value) in needed.items() if used and value is None]
        if missing:
            raise ValueError(f"this reward UNet also needs {', '.join(missing)}")

    def _hooks(self, features: _Features) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
        """(module, hook on its output) for every place where the reward enters."""
        if features.time is not None:
            yield self.time_embedding, functools.partial(_add, features.time)
        if features.tokens is not None:
            encoder, tokens = self._reward[0].encoder, features.tokens
            yield self.conv_in, lambda module, args, out: encoder(out, tokens)
        # Without Eq. 3 there are no vectors, and no hooks on the blocks.
        blocks = (*self.down_blocks, self.mid_block, *self.up_blocks)
        for block, vector in zip(blocks, features.blocks, strict=False):
            yield block, functools.partial(_add, vector[:, :, None, None])


def _add(vector: Tensor, module: nn.Module, args: Any, out: Any) -> Any:
    """A hook that adds to what a block hands on, and leaves its skip connections alone."""
    if isinstance(out, tuple):
        return (out[0] + vector, *out[1:])
    return out + vector


def _attach_released(model: nn.Module, reward: nn.Module) -> None:
    """Registers the parts of `reward` under the names of the public checkpoint."""
    for ours, released in RELEASED_NAMES.items():
        try:
            part = reward.get_submodule(ours.removeprefix("reward."))
        except AttributeError:  # switched off
            continue
        *parents, name = released.split(".")
        parent = model
        for step in parents:
            if step not in parent._modules:
                parent.add_module(step, nn.Module())
            parent = parent.get_submodule(step)
        parent.add_module(name, part)


def _zero(layer: Any) -> Any:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
