"""For PyTorch users: the reward UNet as a thin class on diffusers' UNet. Needs torch."""

# diffusers looks its base class up in the module that a model_index.json names.
from diffusers import ModelMixin

from mre_jax.pytorch.reward_unet import RewardUNet2DConditionModel

__all__ = ["ModelMixin", "RewardUNet2DConditionModel"]
