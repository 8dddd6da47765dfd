"""How many tensors a program holds while it goes through a source."""

import weakref

import numpy as np

from mre_jax.weights.files.source import TensorSource


class Alive(TensorSource):
    """Another source, whose every reading is an array of its own.

    Attributes:
        reads: names in the order of reading.
        most: arrays that were alive at once.
    """

    def __init__(self, source: TensorSource):
        self.origin, self.tensors = source.origin, source.tensors
        self.reads: list[str] = []
        self.most = 0
        self._source = source
        self._made: list[weakref.ref] = []

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        array = self._source.read(name).copy()
        self.reads.append(name)
        self._made.append(weakref.ref(array))
        self.most = max(self.most, sum(made() is not None for made in self._made))
        return array
