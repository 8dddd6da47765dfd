"""The names of `mre_jax.weights.model` from before, for the rooms that still read them."""

from mre_jax.weights.model import REWARD_CLASS, Component, changed, expanded, with_loras
from mre_jax.weights.model import PretrainedModel as Checkpoint
from mre_jax.weights.model import model_at as checkpoint_at
from mre_jax.weights.model import open_model as open_checkpoint

__all__ = [
    "REWARD_CLASS",
    "Checkpoint",
    "Component",
    "changed",
    "checkpoint_at",
    "expanded",
    "open_checkpoint",
    "with_loras",
]
