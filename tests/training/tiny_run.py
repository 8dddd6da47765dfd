"""A tiny run without files: network, state, step and batches, on any of the simulated devices."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import to_global
from mre_jax.data.batches.synthetic import SyntheticCache, SyntheticLoader
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.unet import UNet
from mre_jax.models.unet_config import UNetConfig
from mre_jax.training.config import TrainConfig
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.pretrained import compute_of
from mre_jax.training.state import Network, State, fresh_state, parameters_of
from mre_jax.training.step import Metrics, make_step
from mre_jax.training.trained import TrainedNetworks
from tests.models.tiny_unet import abstract_unet, make_unet, tiny_config, tiny_reward

SCALING_FACTOR = 0.18215
REWARD = tiny_reward()
BATCH, TOKENS, SIDE = 8, 5, 4
FEATURES = (3, 16)
"""Side and channels of SmartEdit's image features for `SMALL`."""

# One level with attention: a third of the program of two, with every kind of layer.
SMALL = tiny_config(
    REWARD,
    block_out_channels=[16],
    down_block_types=["CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D"],
    cross_attention_dim=16,
    norm_num_groups=4,
)


def train_config(reward: Any = REWARD, **settings: Any) -> TrainConfig:
    """A configuration with settings such as `optimizer__accumulation=2`, `__` being the dot."""
    values: dict[str, Any] = {
        "name": "tiny",
        "steps": 100,
        "model": {
            "init_from": "model",
            "compute_dtype": "float32",
            "ema_decay": 0.99,
            "reward": None if reward is None else reward.to_dict(),
        },
        "data": {"paths": ["data"], "batch_size": BATCH},
        "loss": {"dropout": 0.3},
        "optimizer": {"learning_rate": 1e-3},
    }
    for key, value in settings.items():
        *sections, name = key.split("__")
        section = values
        for part in sections:
            section = section.setdefault(part, {})
        section[name] = value
    return TrainConfig.from_dict(values)


class TinyRun:
    """Everything between a batch of cached latents and a step.

    Args:
        unet: with its weights; None is `SMALL` with random ones.
        devices: how many.
        image_features: such as `FEATURES`; None is an editor without.
        settings: of `train_config`.
    """

    def __init__(
        self,
        unet: UNet | None = None,
        devices: int = 1,
        image_features: tuple[int, int] | None = None,
        **settings: Any,
    ):
        given = _small() if unet is None else unet
        self.unet_config: UNetConfig = given.config
        self.image_features = image_features
        self.config = train_config(given.config.reward, **settings)
        compute = compute_of(self.config.model)
        self.layout = Layout.of(
            self.config.mesh, make_mesh(self.config.mesh, jax.devices()[:devices])
        )
        self.unet = Network.of(
            abstract_unet(given.config, dtype=compute.dtype, remat=compute.remat)
        )
        self.weights = jax.tree.map(np.asarray, parameters_of(given))
        self.schedule = NoiseSchedule.stable_diffusion()
        self.encoders = Encoders(None, None, SCALING_FACTOR)
        null = np.random.default_rng(9).normal(size=(TOKENS, given.config.cross_attention_dim))
        reference = self.weights if self.config.loss.preference else None
        self.frozen = Frozen({}, {}, jnp.asarray(null, jnp.float32), reference)
        self.optimizer = make_optimizer(self.config.optimizer, self.config.steps)
        networks = TrainedNetworks({"unet": self.unet})
        self._step = make_step(
            self.config, networks, self.encoders, self.schedule, self.optimizer, self.layout
        )

    def state(self) -> State:
        """The state before the first step."""
        params = {
            name: jax.device_put(value, self.layout.storage(value))
            for name, value in self.weights.items()
        }
        return fresh_state(
            params, self.optimizer, self.layout, ema=self.config.model.ema_decay is not None
        )

    def batch(self, step: int) -> Batch:
        """The host's batch of a step."""
        width, dropout = self.unet_config.cross_attention_dim, self.config.loss.dropout
        return make_batch(step, width, dropout, self.image_features)

    def step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One step on a batch of the host; `state` is used up."""
        with jax.set_mesh(self.layout.mesh):
            state, metrics = self._step(state, self.frozen, to_global(batch, self.layout.mesh))
        return state, jax.tree.map(np.asarray, metrics)

    def compiled(self) -> str:
        """The program of a step."""
        with jax.set_mesh(self.layout.mesh):
            batch = to_global(self.batch(0), self.layout.mesh)
            return self._step.lower(self.state(), self.frozen, batch).compile().as_text()

    def train(self, batches: Sequence[Batch], state: State | None = None) -> tuple[State, list]:
        """Steps on all batches, from the beginning or from `state`."""
        state = self.state() if state is None else state
        told = []
        for batch in batches:
            state, metrics = self.step(state, batch)
            told.append(metrics)
        return state, told

    def train_steps(self, count: int, start: int = 0) -> tuple[State, list]:
        """Steps on the batches `start` to `start + count - 1`, from the beginning."""
        return self.train([self.batch(step) for step in range(start, start + count)])


@functools.cache
def tiny_run(devices: int = 1, **settings: Any) -> TinyRun:
    """A `TinyRun` of `SMALL`, made and compiled once for each choice of settings."""
    return TinyRun(devices=devices, **settings)


def make_batch(
    step: int, width: int, dropout: float = 0.3, image_features: tuple[int, int] | None = None
) -> Batch:
    """Cached latents and states, one of the examples without a reward."""
    loader = SyntheticLoader(
        BATCH,
        resolution=SIDE * 8,
        tokens=TOKENS,
        dropout=dropout,
        cache=SyntheticCache(dtype="float16", text_width=width, image_features=image_features),
    )
    batch = loader.batch(step)
    present = np.arange(BATCH) != 2
    return batch._replace(scores=batch.scores * present[:, None], present=present)


def take(batch: Batch, rows: Any) -> Batch:
    """Some examples of a batch, in any order."""
    return jax.tree.map(lambda x: x[rows], batch)


def poisoned(batch: Batch) -> Batch:
    """A batch of which one example's reward is not a number."""
    scores = batch.scores.copy()
    scores[1] = np.nan
    return batch._replace(scores=scores)


def largest_difference(one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """The largest distance of two trees' numbers, over the largest number of its leaf."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
    arrays = ((np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs)
    return max(float(np.abs(a - b).max() / (np.abs(b).max() + 1e-30)) for a, b in arrays)


@functools.cache
def _small() -> UNet:
    return make_unet(SMALL)
