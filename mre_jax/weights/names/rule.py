"""Names and axes: an NNX module's parameters as PyTorch's tensors, and back.

Attribute names of the modules are the checkpoint's own, so a parameter's path joined by dots is its
PyTorch name, but for the leaf: Flax's `kernel`, `scale` and `embedding` are PyTorch's `weight`, a
dense kernel [in, out] is PyTorch's [out, in], and a convolution's HWIO is OIHW.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mre_jax.weights.files.source import TensorInfo, TensorSource
from mre_jax.weights.names.strict import stream

Path = tuple[Any, ...]
Module = TypeVar("Module", bound=nnx.Module)
Placement = jax.sharding.Sharding | Callable[[str, Any], jax.sharding.Sharding]


def torch_name(path: Sequence[Any]) -> str:
    """PyTorch's name of the parameter at `path` of a module."""
    *parents, leaf = map(str, path)
    return ".".join([*parents, "weight" if leaf in _WEIGHTS else leaf])


def torch_shape(path: Sequence[Any], shape: Sequence[int]) -> tuple[int, ...]:
    """PyTorch's shape of the parameter at `path` that has `shape` here."""
    return tuple(shape[axis] for axis in _torch_axes(path, len(shape)))


def to_torch(path: Sequence[Any], array: np.ndarray) -> tuple[str, np.ndarray]:
    """PyTorch's name and layout of the parameter at `path`, bit for bit."""
    axes = _torch_axes(path, array.ndim)
    return torch_name(path), np.asarray(array.transpose(axes), order="C")


def from_torch(path: Sequence[Any], array: np.ndarray) -> np.ndarray:
    """The parameter at `path` from PyTorch's layout: the inverse of `to_torch`, as a view."""
    return array.transpose(np.argsort(_torch_axes(path, array.ndim)))


def parameters(module: nnx.Module) -> dict[str, tuple[Path, nnx.Variable]]:
    """The module's parameters by PyTorch name, each with its path; `module` may be abstract."""
    flat = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {torch_name(path): (path, variable) for path, variable in flat}


def expected_tensors(module: nnx.Module) -> dict[str, jax.ShapeDtypeStruct]:
    """The tensors that a PyTorch file of this module holds: name to shape, in PyTorch's layout.

    Args:
        module: concrete, or abstract from `nnx.eval_shape`.
    """
    return {
        name: jax.ShapeDtypeStruct(torch_shape(path, variable.shape), variable.dtype)
        for name, (path, variable) in parameters(module).items()
    }


def load(
    module: Module,
    source: TensorSource,
    *,
    dtype: Any = jnp.float32,
    as_stored: Callable[[str], bool] | None = None,
    placement: Placement | None = None,
) -> Module:
    """A module with the structure of `module` and the values of `source`.

    Each tensor is read once, converted and placed before the next, part by part where it is split,
    so the peak on the host is the largest of them beside what stays there.

    Args:
        module: abstract, from `nnx.eval_shape`.
        source: tensors under PyTorch's names.
        dtype: dtype of the parameters.
        as_stored: whether the parameter of a name has its tensor's dtype instead.
        placement: a sharding for all parameters, or a function of name and shape (in our layout,
            as a `ShapeDtypeStruct`) that gives each its own; None is JAX's default device.

    Raises:
        DataError: listing every tensor that is missing, unexpected, misshaped or not finite.
    """
    graph, abstract = nnx.split(module)
    paths = {name: path for name, (path, _) in parameters(module).items()}
    values = {}
    for name, array in stream(expected_tensors(module), source):
        wanted = array.dtype if as_stored is not None and as_stored(name) else jnp.dtype(dtype)
        values[paths[name]] = _placed(name, from_torch(paths[name], array), wanted, placement)
        del array  # before the next is read
    state = nnx.from_flat_state(
        [(path, variable.replace(values[path])) for path, variable in nnx.to_flat_state(abstract)]
    )
    return nnx.merge(graph, state)


class ModuleTensors(TensorSource):
    """The parameters of a module as PyTorch's tensors, fetched from the devices one by one."""

    def __init__(self, module: nnx.Module):
        self.origin = f"this {type(module).__name__}"
        self._parameters = parameters(module)
        self.tensors = {
            name: TensorInfo(torch_shape(path, variable.shape), np.dtype(variable.dtype))
            for name, (path, variable) in self._parameters.items()
        }

    def read(self, name: str) -> np.ndarray:
        """The tensor `name`."""
        path, variable = self._parameters[name]
        return to_torch(path, np.asarray(variable[...]))[1]


def tensors(module: nnx.Module) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value of every tensor of `ModuleTensors`."""
    source = ModuleTensors(module)
    for name in source.tensors:
        yield name, source.read(name)


def _placed(
    name: str, array: np.ndarray, dtype: np.dtype, placement: Placement | None
) -> jax.Array:
    """The array on its devices, each of whose parts is copied, sent and let go of by itself."""
    if placement is None:
        return jax.block_until_ready(jnp.asarray(_copied(array, dtype)))
    if not isinstance(placement, jax.sharding.Sharding):
        placement = placement(name, jax.ShapeDtypeStruct(array.shape, dtype))
    parts = [
        jax.block_until_ready(jax.device_put(_copied(array[index], dtype), device))
        for device, index in placement.addressable_devices_indices_map(array.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(array.shape, placement, parts, dtype=dtype)


def _copied(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy in C order, where a CPU device can use it as it is: it would copy any other."""
    size = array.size * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    copy = room[start : start + size].view(dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _torch_axes(path: Sequence[Any], ndim: int) -> tuple[int, ...]:
    return _KERNEL_AXES[ndim] if path[-1] == "kernel" else tuple(range(ndim))


_ALIGNMENT = 64
"""Bytes, of XLA's buffers on a CPU."""
_WEIGHTS = ("kernel", "scale", "embedding")
_KERNEL_AXES = {2: (1, 0), 4: (3, 2, 0, 1)}
