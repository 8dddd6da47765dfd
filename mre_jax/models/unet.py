"""The denoising UNet of Stable Diffusion 1.x and 2.x, with the reward condition as an option.

Of a prompt and a reward it uses keys, values and vectors that change neither with the sample nor
with the timestep. `condition` computes them, once per image; `denoise` runs once per step.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from mre_jax.models.layers import MLP, Compute, conv, group_norm, sinusoid
from mre_jax.models.reward import RewardFeatures, RewardInputs, make_reward
from mre_jax.models.unet_blocks import BlockContext, DownBlock, MidBlock, UpBlock, block_context
from mre_jax.models.unet_config import UNetConfig

__all__ = ["Condition", "UNet", "UNetConfig"]


class Condition(NamedTuple):
    """What `UNet.denoise` uses of prompt and reward, in the compute dtype.

    A pytree, each of whose arrays has the batch as its first axis: it can be indexed,
    concatenated and sharded along it.

    Attributes:
        blocks: for each block in order (down, mid, up) keys and values of each transformer.
        reward: None where the whole batch has no reward.
        image_features: what is added to the first feature map, at the latents' grid; None for an
            editor without.
    """

    blocks: tuple[BlockContext, ...]
    reward: RewardFeatures | None
    image_features: Float[Array, "b h w c"] | None = None


class UNet(nnx.Module):
    """Predicts the noise (or whatever it was trained for) in a sample of latents.

    The reward's parameters are made last, so that a seed gives the same other parameters with
    and without it.

    Example:
        >>> from mre_jax.models.layers import make_rngs
        >>> from mre_jax.reward.config import RewardConfig
        >>> config = UNetConfig(
        ...     block_out_channels=(32, 32),
        ...     down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        ...     up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ...     cross_attention_dim=16,
        ...     reward=RewardConfig(form="paper"),
        ... )
        >>> unet = nnx.eval_shape(lambda: UNet(config, compute=Compute(), rngs=make_rngs(0)))
        >>> sample, timestep, states = jnp.ones((2, 8, 8, 8)), jnp.ones(2), jnp.ones((2, 77, 16))
        >>> reward = RewardInputs(jnp.full((2, 3), 5.0), states, states[:, 0])
        >>> nnx.eval_shape(lambda unet: unet(sample, timestep, states, reward), unet).shape
        (2, 8, 8, 4)
    """

    def __init__(self, config: UNetConfig, *, compute: Compute, rngs: nnx.Rngs):
        self.config = config
        self.compute = compute
        widths = config.block_out_channels
        self.conv_in = conv(config.in_channels, widths[0], compute=compute, rngs=rngs)
        self.time_embedding = MLP(widths[0], config.time_width, compute=compute, rngs=rngs)

        skips = [widths[0]]
        self.down_blocks: nnx.List[DownBlock] = nnx.List()
        for index, channels in enumerate(widths):
            block = DownBlock(config, index, skips[-1], compute=compute, rngs=rngs)
            self.down_blocks.append(block)
            skips += [channels] * (len(block.resnets) + len(block.downsamplers))

        self.mid_block = MidBlock(config, compute=compute, rngs=rngs)

        self.up_blocks: nnx.List[UpBlock] = nnx.List()
        channels = widths[-1]
        for index, out_channels in enumerate(reversed(widths)):
            taken = [skips.pop() for _ in range(config.layers_per_block + 1)]
            self.up_blocks.append(
                UpBlock(config, index, channels, taken, compute=compute, rngs=rngs)
            )
            channels = out_channels

        self.conv_norm_out = group_norm(
            widths[0],
            groups=config.norm_num_groups,
            epsilon=config.norm_eps,
            compute=compute,
            rngs=rngs,
        )
        self.conv_out = conv(widths[0], config.out_channels, compute=compute, rngs=rngs)
        self.reward = make_reward(config, compute=compute, rngs=rngs)

    def __call__(
        self,
        sample: Float[Array, "b h w c_in"],
        timestep: Num[Array, "b"],
        encoder_hidden_states: Float[Array, "b t d"],
        reward: RewardInputs | None = None,
        image_features: Float[Array, "b h w c"] | None = None,
    ) -> Float[Array, "b h w c_out"]:
        """`denoise` with the `condition` of its last three arguments."""
        condition = self.condition(encoder_hidden_states, reward, image_features)
        return self.denoise(sample, timestep, condition)

    def condition(
        self,
        encoder_hidden_states: Float[Array, "b t d"],
        reward: RewardInputs | None = None,
        image_features: Float[Array, "b h w c"] | None = None,
    ) -> Condition:
        """Computes all that depends on neither sample nor timestep.

        Args:
            reward: None for no reward in the whole batch, which leaves exactly the arithmetic of
                the plain UNet; `RewardInputs.present` takes it from single examples. A UNet
                without reward parts ignores it.
            image_features: SmartEdit's v', of the UNet's first width and at the latents' grid
                (`mre_jax.models.bim.resized`); None leaves exactly the arithmetic without it.
        """
        states = encoder_hidden_states.astype(self.compute.dtype)
        blocks: list[DownBlock | MidBlock | UpBlock]
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        features = None if self.reward is None or reward is None else self.reward(reward)
        if image_features is not None:
            image_features = image_features.astype(self.compute.dtype)
        contexts = tuple(block_context(block, states) for block in blocks)
        return Condition(contexts, features, image_features)

    def denoise(
        self,
        sample: Float[Array, "b h w c_in"],
        timestep: Num[Array, "b"],
        condition: Condition,
    ) -> Float[Array, "b h w c_out"]:
        """The network's output for one step, float32.

        Args:
            sample: the noisy latents, with the original image's latents after them in the
                channels if the network is an editor.
            timestep: 0 to 999, whole or fractional.
            condition: from `condition`, for the same batch.
        """
        reward = condition.reward
        contexts = iter(condition.blocks)
        additions = iter(reward.blocks if reward and reward.blocks else ())
        time = self._embed_time(timestep, reward)
        x = self.conv_in(sample)
        if condition.image_features is not None:
            x = x + condition.image_features
        if self.reward is not None and reward is not None and reward.tokens is not None:
            x = self.reward.encoder(x, reward.tokens, reward.present)

        skips = [x]
        for down in self.down_blocks:
            x, made = down(x, time, next(contexts))
            x = _add(x, additions)
            skips += made
        x = _add(self.mid_block(x, time, next(contexts)), additions)
        for up in self.up_blocks:
            taken = [skips.pop() for _ in up.resnets]
            _, height, width, _ = (skips or taken)[-1].shape
            x = _add(up(x, time, next(contexts), taken, (height, width)), additions)

        x = jax.nn.silu(self.conv_norm_out(x))
        return self.conv_out(x).astype(jnp.float32)

    def _embed_time(
        self, timestep: Num[Array, "b"], reward: RewardFeatures | None
    ) -> Float[Array, "b e"]:
        config = self.config
        waves = sinusoid(
            timestep,
            config.block_out_channels[0],
            flip_sin_to_cos=config.flip_sin_to_cos,
            freq_shift=config.freq_shift,
        )
        time = self.time_embedding(waves)
        return time if reward is None or reward.time is None else time + reward.time


def _add(x: Array, additions: Iterator[Array]) -> Array:
    """Eq. 3 of the paper: adds the next vector, if any are left, at every position."""
    vector = next(additions, None)
    return x if vector is None else x + vector[:, None, None, :]
