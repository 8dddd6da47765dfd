"""A plain editor's UNet with reward parts that are made anew, for the run that will train them."""

import numpy as np

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.weights.files.source import TensorSource
from mre_jax.weights.fresh import FreshTensors

_PREFIX = "reward."


class WithFreshReward(TensorSource):
    """The tensors of a plain UNet, and those of its reward condition by a seed.

    Args:
        source: the plain UNet's tensors.
        config: configuration of the UNet, with `reward`.
        seed: seed of the new parameters, which a whole UNet of this seed has too.
    """

    def __init__(self, source: TensorSource, config: UNetConfig, seed: int):
        self.origin = source.origin
        self._source = source
        self._fresh = FreshTensors(
            lambda: UNet(config, compute=Compute(), rngs=make_rngs(seed)),
            lambda name: name.startswith(_PREFIX),
        )
        self.tensors = {**source.tensors, **self._fresh.tensors}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return (self._fresh if name in self._fresh.tensors else self._source).read(name)
