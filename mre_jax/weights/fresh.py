"""Parts of a network that are made anew, by a seed."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import nnx

from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.names.rule import parameters, to_torch


class FreshTensors(TensorSource):
    """Tensors of a network as it is made.

    Only these are computed, in one program that leaves the rest of the network out.

    Args:
        build: makes the network.
        wanted: whether the tensor of a name is one of them.
        origin: what errors call them.
    """

    def __init__(
        self,
        build: Callable[[], nnx.Module],
        wanted: Callable[[str], bool] = lambda name: True,
        *,
        origin: str = "new parts",
    ):
        self.origin = origin
        self._arrays = _make(build, wanted)
        self.tensors = {n: TensorInfo(a.shape, a.dtype) for n, a in self._arrays.items()}

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        return self._arrays[name]


def _make(
    build: Callable[[], nnx.Module], wanted: Callable[[str], bool]
) -> Mapping[str, np.ndarray]:
    named = parameters(nnx.eval_shape(build))
    paths = [path for name, (path, _) in named.items() if wanted(name)]

    @jax.jit
    def values() -> list[jax.Array]:
        found = dict(parameters(build()).values())
        return [found[path][...] for path in paths]

    return dict(to_torch(p, np.asarray(v)) for p, v in zip(paths, values(), strict=True))
