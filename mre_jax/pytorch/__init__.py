"""For PyTorch users: the reward UNet as a thin class on diffusers' UNet. Needs torch."""

from mre_jax.pytorch.reward_unet import RewardUNet2DConditionModel

__all__ = ["RewardUNet2DConditionModel"]
