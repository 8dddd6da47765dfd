"""A plain editor's UNet with reward parts that are made anew, for the run that will train them."""

import jax
import numpy as np
from flax import nnx

from mre_jax.models.layers import Compute, make_rngs
from mre_jax.models.unet import UNet, UNetConfig
from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.names.rule import parameters, to_torch

_PREFIX = "reward."


class WithFreshReward(TensorSource):
    """The tensors of a plain UNet, and those of its reward condition by a seed.

    Only the reward parts are computed, in one program that leaves the rest of the network out.

    Args:
        source: the plain UNet's tensors.
        config: configuration of the UNet, with `reward`.
        seed: seed of the new parameters, which a whole UNet of this seed has too.
    """

    def __init__(self, source: TensorSource, config: UNetConfig, seed: int):
        self.origin = source.origin
        self._source = source
        self._fresh = _make(config, seed)
        fresh = {name: TensorInfo(a.shape, a.dtype) for name, a in self._fresh.items()}
        self.tensors = {**source.tensors, **fresh}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._fresh[name] if name in self._fresh else self._source.read(name)


def _make(config: UNetConfig, seed: int) -> dict[str, np.ndarray]:
    def build() -> UNet:
        return UNet(config, compute=Compute(), rngs=make_rngs(seed))

    paths = [path for name, (path, _) in parameters(nnx.eval_shape(build)).items()
             if name.startswith(_PREFIX)]  # fmt: skip

    @jax.jit
    def values() -> list[jax.Array]:
        found = dict(parameters(build()).values())
        return [found[path][...] for path in paths]

    return dict(to_torch(p, np.asarray(v)) for p, v in zip(paths, values(), strict=True))
