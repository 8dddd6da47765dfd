"""Small UNets and batches for the tests of UNet and reward."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.reward import RewardConfig, RewardInputs
from mre_jax.models.unet import UNet, UNetConfig

# As in a diffusers config.json; two levels, one of them with attention.
TINY = {
    "sample_size": 8,
    "in_channels": 8,
    "block_out_channels": [16, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 24,
    "norm_num_groups": 8,
}


class Batch(NamedTuple):
    sample: np.ndarray
    timestep: np.ndarray
    states: np.ndarray
    reward: RewardInputs

    @property
    def torch(self) -> tuple[Any, Any, Any]:
        """sample as NCHW, timestep, states."""
        import torch

        sample = torch.from_numpy(self.sample).permute(0, 3, 1, 2)
        return sample, torch.from_numpy(self.timestep), torch.from_numpy(self.states)

    @property
    def torch_reward(self) -> dict[str, Any]:
        import torch

        scores, states, pooled, _ = self.reward
        return {
            "reward_scores": torch.from_numpy(scores),
            "reward_text_states": torch.from_numpy(states),
            "reward_text_pooled": torch.from_numpy(pooled),
        }

    @property
    def jax(self) -> tuple[Any, ...]:
        return jax.tree.map(jnp.asarray, tuple(self))


def tiny_config(reward: RewardConfig | None = None, **changes: Any) -> UNetConfig:
    values = {**TINY, **changes}
    return UNetConfig.from_dict(
        values if reward is None else {**values, "reward": reward.to_dict()}
    )


def tiny_reward(**changes: Any) -> RewardConfig:
    return RewardConfig(**{"score_width": 8, "num_attention_heads": 4, **changes})


def abstract_unet(config: UNetConfig, **compute: Any) -> UNet:
    """A UNet of shapes alone."""
    return nnx.eval_shape(lambda: UNet(config, compute=Compute(**compute), rngs=make_rngs(0)))


def make_unet(config: UNetConfig, **compute: Any) -> UNet:
    """A UNet with random weights from NumPy, which is much quicker than compiling their making."""
    unet = abstract_unet(config, **compute)
    rng = np.random.default_rng(0)

    def fill(x: jax.ShapeDtypeStruct) -> jax.Array:
        values = rng.normal(size=x.shape) / max(1, np.prod(x.shape[:-1])) ** 0.5
        return jnp.asarray(values if x.ndim > 1 else 1 + 0.1 * rng.normal(size=x.shape), x.dtype)

    nnx.update(unet, jax.tree.map(fill, nnx.state(unet)))
    return unet


def make_batch(config: UNetConfig, height: int = 6, width: int = 4) -> Batch:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    d = config.cross_attention_dim
    return Batch(
        normal(2, height, width, config.in_channels),
        np.array([7, 850]),
        normal(2, 5, d),
        RewardInputs(np.array([[5, 0, 2.5], [1, 4, 3]], np.float32), normal(2, 6, d), normal(2, d)),
    )


def run(model: nnx.Module, *args: Any, method: str = "__call__") -> Any:
    """The model under jit, as the project runs it: merged from graph and state inside."""
    graphdef, state = nnx.split(model)
    call = lambda state, *args: getattr(nnx.merge(graphdef, state), method)(*args)  # noqa: E731
    return jax.jit(call)(state, *args)


def channels_last(output: Any) -> Any:
    return output.permute(0, 2, 3, 1)
