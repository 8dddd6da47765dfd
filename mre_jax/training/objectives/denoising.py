"""The UNet's error, on the text states of a frozen encoder or a cache."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float32

from mre_jax.data.batches.batch import Batch
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.models.unet import UNet
from mre_jax.training import losses
from mre_jax.training.config import LossConfig
from mre_jax.training.inputs import Encoders, Frozen, Inputs, make_inputs
from mre_jax.training.objectives.objective import Measured
from mre_jax.training.preference import preference_loss
from mre_jax.training.state import Parameters
from mre_jax.training.trained import TrainedNetworks


@dataclasses.dataclass(frozen=True, eq=False)
class Denoising:
    """The mean of the weighted errors, or the loss of the pairs.

    Attributes:
        networks: the UNet.
        encoders: of pictures and texts.
        schedule: of the noise, with the prediction type that is trained.
        settings: the run's.
        with_reward: whether the UNet takes rewards.
    """

    networks: TrainedNetworks
    encoders: Encoders
    schedule: NoiseSchedule
    settings: LossConfig
    with_reward: bool

    def whole(self, batch: Batch) -> Batch:
        """The batch: nothing of an example depends on another."""
        return batch

    def prepare(self, batch: Batch, frozen: Frozen) -> Inputs:
        """Latents, noise, text states and rewards."""
        return make_inputs(
            batch,
            frozen,
            self.encoders,
            self.schedule,
            self.settings,
            with_reward=self.with_reward,
        )

    def loss(
        self, params: Parameters, inputs: Inputs, frozen: Frozen
    ) -> tuple[Float32[Array, ""], Measured]:
        """The loss, and the errors."""
        measured = self.measure(params, inputs, frozen)
        if self.settings.preference is None:
            return jnp.mean(measured.errors * inputs.weight), measured
        assert frozen.reference is not None  # noqa: S101  a run's start has made it
        known = self._errors(frozen.reference, inputs, frozen)
        beta = self.settings.preference.beta
        return preference_loss(measured.errors, known, inputs.weight, beta), measured

    def measure(self, params: Parameters, inputs: Inputs, frozen: Frozen) -> Measured:
        """The error of each example."""
        errors = self._errors(params, inputs, frozen)
        return Measured(errors, inputs.timesteps, inputs.weight)

    def _errors(self, params: Parameters, inputs: Inputs, frozen: Frozen) -> Float32[Array, " b"]:
        unet: UNet = self.networks.module("unet", params, frozen.networks)
        assert inputs.text is not None  # noqa: S101  the batch has no prompts
        output = unet(
            inputs.sample, inputs.timesteps, inputs.text, inputs.reward, inputs.image_features
        )
        return losses.errors(output, inputs.target, self.settings.terms)
