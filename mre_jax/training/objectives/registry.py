"""The objectives by the name that `loss.objective` has for them."""

import dataclasses

from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.training.config import ALIGNING, TrainConfig
from mre_jax.training.inputs import Encoders
from mre_jax.training.objectives.captions import Captions
from mre_jax.training.objectives.denoising import Denoising
from mre_jax.training.objectives.objective import Objective
from mre_jax.training.objectives.replies_and_edits import RepliesAndEdits
from mre_jax.training.trained import TrainedNetworks


def make_objective(
    config: TrainConfig,
    networks: TrainedNetworks,
    encoders: Encoders,
    schedule: NoiseSchedule,
    *,
    training: bool = True,
) -> Objective:
    """The objective of a run.

    Args:
        training: else nothing is dropped at random within the networks, and no reward.
    """
    settings = config.loss
    if not training:
        settings = dataclasses.replace(settings, reward_dropout=0.0)
    rewards = config.model.takes_reward
    if settings.objective == "denoising":
        return Denoising(networks, encoders, schedule, settings, rewards)
    if settings.objective in ALIGNING:
        return Captions(networks, encoders, settings, training)
    return RepliesAndEdits(networks, encoders, schedule, settings, rewards, training)
