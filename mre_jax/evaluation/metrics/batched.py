"""A network over any number of inputs: batches of one shape, so that one program is compiled.

Every local device has a copy of the weights and takes its part of each batch. While the devices
work on one batch, threads prepare the next.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import jax
import numpy as np
from flax import nnx

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.devices import batch_mesh, copied, on_parts, split

Item = TypeVar("Item")
Module = TypeVar("Module", bound=nnx.Module)

_THREADS = 8


class Batched(Generic[Item]):
    """Runs `function` of a network on items, whatever their number.

    Args:
        module: the network; its weights are copied to the devices unless they are there.
        function: from the module and a batch [b ...] to arrays with the batch first, without
            regard to the other examples of the batch. It runs in full float32.
        prepare: from an item to its array, on the host; always of one shape and dtype.
        batch_size: examples at a time on each device.
        devices: None takes all that belong to this process.

    Raises:
        ConfigError: for a batch size below 1.
    """

    def __init__(
        self,
        module: Module,
        function: Callable[[Module, jax.Array], Any],
        prepare: Callable[[Item], np.ndarray],
        *,
        batch_size: int,
        devices: Sequence[jax.Device] | None = None,
    ):
        if batch_size < 1:
            raise ConfigError(f"batch size {batch_size} is not a positive number")
        graph, state = nnx.split(module)
        mesh = batch_mesh(devices)
        self._prepare = prepare
        self._size = batch_size * mesh.size
        self._state = jax.device_put(state, copied(mesh))
        self._batch_sharding = split(mesh)
        run = on_parts(functools.partial(_apply, graph, function), mesh)
        self._run = jax.jit(run)

    def stream(self, items: Iterable[Item]) -> Iterator[Any]:
        """The function's results for some items at a time, in their order, as NumPy arrays.

        Two batches are held at once, whatever the number of items.

        Raises:
            DataError: whatever `prepare` raises.
        """
        running: tuple[int, Any] | None = None
        with ThreadPoolExecutor(_THREADS) as pool:
            for chunk in _chunks(items, self._size):
                inputs = np.stack(list(pool.map(self._prepare, chunk)))
                started = len(chunk), self._start(inputs)
                if running is not None:
                    yield _fetched(*running)
                running = started
        if running is not None:
            yield _fetched(*running)

    def __call__(self, items: Iterable[Item]) -> Any:
        """The results of all items.

        Raises:
            DataError: if there are none, or as `stream`.
        """
        parts = list(self.stream(items))
        if not parts:
            raise DataError("there is nothing to measure; give one picture or more")
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def _start(self, inputs: np.ndarray) -> Any:
        missing = self._size - len(inputs)
        inputs = np.pad(inputs, [(0, missing)] + [(0, 0)] * (inputs.ndim - 1))
        return self._run(self._state, jax.device_put(inputs, self._batch_sharding))


def _apply(
    graph: Any, function: Callable[[Module, jax.Array], Any], state: Any, inputs: jax.Array
) -> Any:
    # TPUs and GPUs multiply in a coarser format by default, which shows in a metric's digits.
    with jax.default_matmul_precision("highest"):
        return function(nnx.merge(graph, state), inputs)


def _fetched(count: int, outputs: Any) -> Any:
    return jax.tree.map(lambda array: np.asarray(array)[:count], outputs)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
