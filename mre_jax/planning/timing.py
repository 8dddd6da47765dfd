"""Seconds of a training step, by its arithmetic and what compiled programs reach of the peak."""

import dataclasses

from mre_jax.planning.calibration import Fit
from mre_jax.planning.hardware import Slice
from mre_jax.planning.memory import copy_bytes, layout_on
from mre_jax.planning.work import Work
from mre_jax.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Seconds of a step.

    Attributes:
        compute: matrix products, convolutions and what goes with them.
        kernels: Pallas kernels of attention.
        transfers: weights gathered and gradients scattered, as if nothing went on beside.
        peak_share: share of the peak, of the UNet's operations in the whole step.
        images: a second, on all chips.
    """

    compute: float
    kernels: float
    transfers: float
    peak_share: float
    images: float

    @property
    def step(self) -> float:
        """Together."""
        return self.compute + self.kernels + self.transfers


def operations(config: TrainConfig, work: Work, inputs: str) -> int:
    """Of an example in a step, frozen networks and what remat does again included."""
    images, texts = work.encoding
    encoders = {"pictures": images + texts, "latents": texts, "texts": 0}[inputs]
    again = work.forward * config.model.remat
    reference = work.forward * (config.loss.preference is not None)
    return work.arithmetic + encoders + again + reference


def time_of(config: TrainConfig, work: Work, where: Slice, inputs: str, fit: Fit) -> StepTime:
    """What a step takes on a slice.

    Args:
        inputs: one of `memory.INPUTS`.
    """
    examples = config.data.batch_size / where.chips
    compute = fit.seconds(where.chip, examples * operations(config, work, inputs))
    kernels = compute * fit.kernel_share(where.chip)
    transfers = _transfers(config, work, where)
    step = compute + kernels + transfers
    return StepTime(
        compute=compute,
        kernels=kernels,
        transfers=transfers,
        peak_share=examples * work.arithmetic / where.chip.peak / step,
        images=config.data.batch_size / step,
    )


def _transfers(config: TrainConfig, work: Work, where: Slice) -> float:
    """Every weight arrives once, and its gradient leaves once; over `fsdp` in each direction too.

    With accumulation the gradients of the parts are added up where they are.
    """
    layout = layout_on(where, config.mesh)
    fsdp = config.mesh.fsdp
    whole = copy_bytes(work, config, layout) * fsdp
    data = where.chips // fsdp
    moved = 2 * whole / fsdp * (data - 1) / data
    moved += 3 * whole * (fsdp - 1) / fsdp * config.optimizer.accumulation
    return moved / (where.chip.link * 1e9)
