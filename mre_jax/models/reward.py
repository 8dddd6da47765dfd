"""Rewards as a condition of the UNet: the paper's module and the released one.

Each form turns scores and texts into `RewardFeatures`, which the UNet adds at three places: to the
time embedding, to the noise after the first convolution through the `RewardEncoder` (the paper,
Eq. 2), and to the output of every block (Eq. 3). All of them depend on the reward alone, so they
are computed once per image and not once per sampling step.

A new form is a subclass of `RewardForm` with its line in `FORMS`, and its name in
`mre_jax.reward.config.FORMS`.

The dropout of 0.1 that the released code trains its encoder with is left out.
"""

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from mre_jax.models.attention import attention
from mre_jax.models.layers import (
    MLP,
    Compute,
    conv,
    embedding,
    group_norm,
    layer_norm,
    linear,
    sinusoid,
)
from mre_jax.models.transformer import KeyValue
from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.config import RELEASED_NAMES, RewardConfig
from mre_jax.reward.scores import PERSPECTIVES

__all__ = [
    "FORMS",
    "PERSPECTIVES",
    "RELEASED_NAMES",
    "PaperReward",
    "ReleasedReward",
    "RewardConfig",
    "RewardEncoder",
    "RewardFeatures",
    "RewardForm",
    "RewardInputs",
    "RewardParts",
    "make_reward",
]


class RewardInputs(NamedTuple):
    """The rewards of a batch of edits, or of the edits that are asked for.

    Attributes:
        scores: 0 to 5, in the order following, preserving, quality.
        text_states: the reward text's states from the prompt's text encoder.
        text_pooled: pooled output of the text encoder.
        present: False takes an example's reward away: it is computed as by the plain UNet. None
            means that all examples have one.

    Example:
        The best scores for two edits, with no words, as to a text encoder of width 64:

        >>> rewards = RewardInputs(jnp.full((2, 3), 5), jnp.zeros((2, 77, 64)), jnp.zeros((2, 64)))
        >>> rewards.scores.shape
        (2, 3)
    """

    scores: Num[Array, "b p"]
    text_states: Float[Array, "b t d"]
    text_pooled: Float[Array, "b d"]
    present: Bool[Array, "b"] | None = None


class RewardFeatures(NamedTuple):
    """What the UNet uses of a reward; a part that is switched off is None.

    Every array has the batch as its first axis. All are 0 where `present` is False.

    Attributes:
        tokens: keys and values of the m reward tokens, for the reward encoder.
        time: added to the time embedding.
        blocks: added to the output of each block, at every position.
        present: which examples have a reward.
    """

    tokens: KeyValue | None
    time: Float[Array, "b e"] | None
    blocks: tuple[Float[Array, "b c"], ...] | None
    present: Bool[Array, "b"]


class RewardParts(NamedTuple):
    """What a form makes of a reward; None for a place at which it does not enter.

    Attributes:
        tokens: m tokens of the UNet's first width, for the reward encoder.
        time: added to the time embedding.
        blocks: added to the output of each block, at every position.
    """

    tokens: Float[Array, "b m c"] | None = None
    time: Float[Array, "b e"] | None = None
    blocks: tuple[Float[Array, "b c"], ...] | None = None


class RewardAttention(nnx.Module):
    """Attention of the noise to the reward tokens, then a residual and LayerNorm."""

    def __init__(self, channels: int, heads: int, *, compute: Compute, rngs: nnx.Rngs):
        self.heads = heads
        self.compute = compute
        self.query = linear(channels, channels, compute=compute, rngs=rngs)
        self.key = linear(channels, channels, compute=compute, rngs=rngs)
        self.value = linear(channels, channels, compute=compute, rngs=rngs)
        self.dense = linear(channels, channels, compute=compute, rngs=rngs)
        self.norm = layer_norm(channels, epsilon=1e-12, compute=compute, rngs=rngs)

    def key_value(self, tokens: Float[Array, "b m c"]) -> KeyValue:
        return KeyValue(self._split(self.key(tokens)), self._split(self.value(tokens)))

    def __call__(self, x: Float[Array, "b n c"], tokens: KeyValue) -> Float[Array, "b n c"]:
        query = self._split(self.query(x))
        out = attention(query, *tokens, implementation=self.compute.attention)
        out = self.dense(rearrange(out, "b n k d -> b n (k d)"))
        y: Array = self.norm(out + x)
        return y

    def _split(self, x: Float[Array, "b n c"]) -> Float[Array, "b n k d"]:
        return rearrange(x, "b n (k d) -> b n k d", k=self.heads)


class RewardMLP(nnx.Module):
    """Two layers of the same width with the exact GELU, then a residual and LayerNorm."""

    def __init__(self, channels: int, *, compute: Compute, rngs: nnx.Rngs):
        self.linear_1 = linear(channels, channels, compute=compute, rngs=rngs)
        self.linear_2 = linear(channels, channels, compute=compute, rngs=rngs)
        self.norm = layer_norm(channels, epsilon=1e-12, compute=compute, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        hidden = jax.nn.gelu(self.linear_1(x), approximate=False)
        y: Array = self.norm(self.linear_2(hidden) + x)
        return y


class RewardEncoder(nnx.Module):
    """CA of the paper's Eq. 2: a post-norm transformer layer between 1x1 convolutions.

    The noise gives the queries, the reward the keys and values. With `zero` the last convolution
    starts at 0, and the encoder as the identity.
    """

    def __init__(
        self, config: UNetConfig, heads: int, zero: bool, *, compute: Compute, rngs: nnx.Rngs
    ):
        channels = config.block_out_channels[0]
        groups = config.norm_num_groups
        self.norm = group_norm(channels, groups=groups, epsilon=1e-6, compute=compute, rngs=rngs)
        self.proj_in = conv(channels, channels, 1, compute=compute, rngs=rngs)
        self.attention = RewardAttention(channels, heads, compute=compute, rngs=rngs)
        self.mlp = RewardMLP(channels, compute=compute, rngs=rngs)
        self.proj_out = conv(channels, channels, 1, zero=zero, compute=compute, rngs=rngs)

    def key_value(self, tokens: Float[Array, "b m c"]) -> KeyValue:
        """What `__call__` needs of the reward tokens."""
        return self.attention.key_value(tokens)

    def __call__(
        self, x: Float[Array, "b h w c"], tokens: KeyValue, present: Bool[Array, "b"]
    ) -> Float[Array, "b h w c"]:
        height = x.shape[1]
        z = rearrange(self.proj_in(self.norm(x)), "b h w c -> b (h w) c")
        z = self.mlp(self.attention(z, tokens))
        change = self.proj_out(rearrange(z, "b (h w) c -> b h w c", h=height))
        return x + _where_present(present, change)


class RewardForm(nnx.Module):
    """What all forms of the reward condition share.

    A form makes its layers in `__init__`, among them an `encoder` if it has tokens, and
    implements `parts`.
    """

    encoder: RewardEncoder

    def __init__(
        self, config: UNetConfig, reward: RewardConfig, *, compute: Compute, rngs: nnx.Rngs
    ):
        self.config, self.reward = config, reward

    def __call__(self, inputs: RewardInputs) -> RewardFeatures:
        present = inputs.present
        if present is None:
            present = jnp.ones(inputs.scores.shape[0], bool)
        tokens, time, blocks = self.parts(inputs)
        keys = None if tokens is None else self.encoder.key_value(tokens)
        features = RewardFeatures(keys, time, blocks, present)
        masked: RewardFeatures = jax.tree.map(lambda x: _where_present(present, x), features)
        return masked

    @abc.abstractmethod
    def parts(self, inputs: RewardInputs) -> RewardParts:
        """The condition at each place where it enters; `present` is applied afterwards."""

    def encode_scores(self, scores: Num[Array, "b p"]) -> Float[Array, "b f"]:
        """Concat[PE(S_f), PE(S_p), PE(S_q)] of Eq. 6, float32; 0 for a perspective that is off."""
        waves = sinusoid(
            scores,
            self.reward.score_width,
            flip_sin_to_cos=self.config.flip_sin_to_cos,
            freq_shift=self.config.freq_shift,
        )
        counts = jnp.array([name in self.reward.perspectives for name in PERSPECTIVES])
        waves = jnp.where(counts[:, None], waves, 0)
        return rearrange(waves, "b p f -> b (p f)")


class PaperReward(RewardForm):
    """The multi-reward condition c_R of the paper (section 4.3) and its projections.

    c_R is one token of the scores and the t tokens of the text, each plus an embedding of its
    type. Its tokens, projected by Linear_1, go to the reward encoder (Eq. 2). Where Eq. 3 adds
    c_R to a feature map it has to be one vector: the sum of the scores' token and the pooled
    text, both typed, with a Linear_2 for each block. Encoder and additions start at 0, so that
    training starts from the pretrained editor.
    """

    def __init__(
        self, config: UNetConfig, reward: RewardConfig, *, compute: Compute, rngs: nnx.Rngs
    ):
        super().__init__(config, reward, compute=compute, rngs=rngs)
        width = config.cross_attention_dim
        if reward.score:
            features = len(PERSPECTIVES) * reward.score_width
            self.score = MLP(features, width, compute=compute, rngs=rngs)
        self.type_embedding = embedding(2, width, compute=compute, rngs=rngs)
        if reward.attention:
            channels = config.block_out_channels[0]
            self.linear_1 = linear(width, channels, compute=compute, rngs=rngs)
            self.encoder = RewardEncoder(
                config, reward.num_attention_heads, zero=True, compute=compute, rngs=rngs
            )
        if reward.addition:
            self.linear_2 = nnx.List(
                linear(width, channels, zero=True, compute=compute, rngs=rngs)
                for channels in config.block_channels
            )

    def parts(self, inputs: RewardInputs) -> RewardParts:
        tokens, summary = self._condition(inputs)
        return RewardParts(
            tokens=self.linear_1(tokens) if self.reward.attention else None,
            blocks=tuple(layer(summary) for layer in self.linear_2)
            if self.reward.addition
            else None,
        )

    def _condition(self, inputs: RewardInputs) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        """c_R as tokens and as one vector."""
        score_type, text_type = self.type_embedding(jnp.arange(2))
        tokens, vectors = [], []
        if self.reward.score:
            score = self.score(self.encode_scores(inputs.scores)) + score_type
            tokens.append(score[:, None])
            vectors.append(score)
        if self.reward.text:
            tokens.append(inputs.text_states.astype(text_type.dtype) + text_type)
            vectors.append(inputs.text_pooled.astype(text_type.dtype) + text_type)
        return jnp.concatenate(tokens, axis=1), sum(vectors[1:], start=vectors[0])


class ReleasedReward(RewardForm):
    """The reward condition of the public checkpoint.

    Scores and pooled text are each one token for the reward encoder and one vector that is added
    to the time embedding; there is no embedding of types and nothing after the blocks. The
    checkpoint's own names are in `RELEASED_NAMES`.
    """

    def __init__(
        self, config: UNetConfig, reward: RewardConfig, *, compute: Compute, rngs: nnx.Rngs
    ):
        super().__init__(config, reward, compute=compute, rngs=rngs)
        width, channels = config.cross_attention_dim, config.block_out_channels[0]
        features = len(PERSPECTIVES) * reward.score_width
        if reward.score and reward.addition:
            self.score_time = MLP(features, config.time_width, compute=compute, rngs=rngs)
        if reward.text and reward.addition:
            self.text_time = linear(width, config.time_width, compute=compute, rngs=rngs)
        if reward.score and reward.attention:
            self.score_token = MLP(features, channels, compute=compute, rngs=rngs)
        if reward.text and reward.attention:
            self.text_token = linear(width, channels, compute=compute, rngs=rngs)
        if reward.attention:
            self.encoder = RewardEncoder(
                config, reward.num_attention_heads, zero=False, compute=compute, rngs=rngs
            )

    def parts(self, inputs: RewardInputs) -> RewardParts:
        return RewardParts(
            tokens=self._tokens(inputs) if self.reward.attention else None,
            time=self._time(inputs) if self.reward.addition else None,
        )

    def _tokens(self, inputs: RewardInputs) -> Float[Array, "b m c"]:
        tokens = []
        if self.reward.score:
            tokens.append(self.score_token(self.encode_scores(inputs.scores)))
        if self.reward.text:
            tokens.append(self.text_token(inputs.text_pooled))
        return jnp.stack(tokens, axis=1)

    def _time(self, inputs: RewardInputs) -> Float[Array, "b e"]:
        vectors = []
        if self.reward.score:
            vectors.append(self.score_time(self.encode_scores(inputs.scores)))
        if self.reward.text:
            vectors.append(self.text_time(inputs.text_pooled))
        return sum(vectors[1:], start=vectors[0])


FORMS: dict[str, type[RewardForm]] = {"paper": PaperReward, "released": ReleasedReward}


def make_reward(config: UNetConfig, *, compute: Compute, rngs: nnx.Rngs) -> RewardForm | None:
    """The reward condition that `config.reward` describes; None if nothing of it is switched on."""
    reward = config.reward
    if reward is None or not reward.enabled:
        return None
    return FORMS[reward.form](config, reward, compute=compute, rngs=rngs)


def _where_present(present: Bool[Array, "b"], x: Array) -> Array:
    return jnp.where(jnp.expand_dims(present, range(1, x.ndim)), x, jnp.zeros_like(x))
