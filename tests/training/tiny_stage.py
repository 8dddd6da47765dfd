"""A small SmartEdit's networks in memory, and a step that trains them, on simulated devices."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import to_global
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.bim import BIM
from mre_jax.models.clip_vision import CLIPPatchEncoder
from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.llama import LlamaForCausalLM
from mre_jax.models.projector import Projector
from mre_jax.models.qformer import QFormer
from mre_jax.smartedit.prompt import IGNORED, Prompts
from mre_jax.training.inputs import Encoders, Frozen
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.state import Network, State, fresh_state, parameters_of
from mre_jax.training.step import Metrics, make_step
from mre_jax.training.trained import TrainedNetworks
from tests.models import smartedit_sizes
from tests.models.smartedit_sizes import LLAMA, LORA, PROJECTOR, QFORMER, VISION
from tests.models.tiny_unet import make_unet, tiny_config
from tests.training.tiny_run import BATCH, SCALING_FACTOR, make_batch, train_config

NEW = 7
"""Added tokens: the last of the vocabulary."""
PARTS = ("unet", "qformer", "bim", "adapters", "new_tokens")
LENGTH, PATCHES = 30, 16
SIZES = dataclasses.replace(smartedit_sizes.BIM, out_channels=16)
UNET = tiny_config(
    block_out_channels=[16],
    down_block_types=["CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D"],
    cross_attention_dim=12,
)


def make_network(name: str) -> Any:
    """A component with random weights."""
    made: dict[str, Any] = {"compute": Compute(), "rngs": make_rngs(0)}
    return {
        "llm": lambda: LlamaForCausalLM(LLAMA, LORA, **made),
        "vision": lambda: CLIPPatchEncoder(VISION, **made),
        "projector": lambda: Projector(PROJECTOR, **made),
        "qformer": lambda: QFormer(QFORMER, **made),
        "bim": lambda: BIM(SIZES, **made),
        "unet": lambda: make_unet(UNET),
    }[name]()


@functools.cache
def tiny_networks() -> tuple[TrainedNetworks, dict[str, Any], dict[str, dict[str, Any]]]:
    """The networks, what is trained of them, and what is not, on the host."""
    names = ("unet", "llm", "vision", "projector", "qformer", "bim")
    modules = {name: make_network(name) for name in names}
    networks = TrainedNetworks({n: Network.of(m) for n, m in modules.items()}, PARTS, NEW)
    params: dict[str, Any] = {}
    frozen: dict[str, dict[str, Any]] = {}
    for name, module in modules.items():
        trained, frozen[name] = networks.split(name, parameters_of(module))
        params |= trained
    # Adapters and heads start at 0, where a fault in them would not show.
    rng = np.random.default_rng(3)
    for name, array in params.items():
        if not np.any(array):
            params[name] = jnp.asarray(0.1 * rng.normal(size=array.shape), jnp.float32)
    host: Any = jax.tree.map(np.asarray, (params, frozen))
    return networks, *host


def stage_batch(step: int) -> Batch:
    """Cached latents, and prompts whose replies differ in length; one instruction is left out."""
    rng = np.random.default_rng(step)
    ids = rng.integers(1, LLAMA.vocab_size, (BATCH, LENGTH)).astype(np.int32)
    begins = np.arange(18, 18 + BATCH)[:, None]
    is_edit = np.arange(BATCH) != 5
    prompts = Prompts(
        input_ids=ids,
        attention_mask=np.ones((BATCH, LENGTH), bool),
        labels=np.where(np.arange(LENGTH) >= begins, ids, IGNORED).astype(np.int32),
        lengths=np.full(BATCH, LENGTH, np.int32),
        image_start=rng.integers(1, 3, BATCH).astype(np.int32),
        state_positions=(LENGTH - 4 + np.arange(4) * np.ones((BATCH, 1))).astype(np.int32),
        is_editing_task=is_edit,
        too_long=~is_edit,
    )
    pixels = rng.integers(0, 256, (BATCH, 16, 16, 3)).astype(np.uint8)
    return make_batch(step, 12)._replace(prompts=prompts, clip_pixels=pixels)


class TinyStage:
    """Stage 2b between a batch and a step.

    Args:
        devices: how many.
        settings: of `train_config`.
    """

    def __init__(self, devices: int = 1, **settings: Any):
        given = {"data__flip": 0, "model__trained": list(PARTS), **settings}
        self.config = train_config(None, loss__objective="replies_and_edits", **given)
        mesh = make_mesh(self.config.mesh, jax.devices()[:devices])
        self.layout = Layout.of(self.config.mesh, mesh)
        self.networks, self.weights, frozen = tiny_networks()
        null = np.random.default_rng(9).normal(size=(7, 12)).astype(np.float32)
        place = functools.partial(jax.tree.map, lambda x: jax.device_put(x, self.layout.compute(x)))
        self.frozen = Frozen({}, {}, *place((null, None, frozen)))
        self.optimizer = make_optimizer(self.config.optimizer, self.config.steps)
        encoders = Encoders(None, None, SCALING_FACTOR)
        schedule = NoiseSchedule.stable_diffusion()
        self._step = make_step(
            self.config, self.networks, encoders, schedule, self.optimizer, self.layout
        )

    def state(self) -> State:
        """The state before the first step."""
        params = {n: jax.device_put(x, self.layout.storage(x)) for n, x in self.weights.items()}
        return fresh_state(params, self.optimizer, self.layout, ema=True)

    def step(self, state: State, batch: Batch) -> tuple[State, Metrics]:
        """One step on a batch of the host; `state` is used up."""
        with jax.set_mesh(self.layout.mesh):
            state, metrics = self._step(state, self.frozen, to_global(batch, self.layout.mesh))
        return jax.tree.map(np.asarray, (state, metrics))
