"""Putting a PyTorch reference beside one of our networks: weights, names, shapes, distances.

The one rule by which leaves are named and laid out (`kernel` is `weight` transposed, `scale` and
`embedding` are `weight`) is written here a second time on purpose: the tests of the networks do
not rest on the code that converts weights.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

_WEIGHTS = ("kernel", "scale", "embedding")


def load_torch(model: nnx.Module, state_dict: Mapping[str, Any]) -> nnx.Module:
    """Copies a PyTorch state_dict (tensors or arrays) into `model` in place and returns it.

    Raises:
        ValueError: listing every name that is missing, unexpected, or has another shape.
    """
    arrays = {name: _numpy(tensor) for name, tensor in state_dict.items()}
    params = dict(_named_params(model))
    problems = [f"missing: {name}" for name in sorted(params.keys() - arrays.keys())]
    problems += [f"unexpected: {name}" for name in sorted(arrays.keys() - params.keys())]
    for name in sorted(params.keys() & arrays.keys()):
        leaf, param = params[name]
        if _torch_shape(leaf, param.shape) != arrays[name].shape:
            theirs, ours = arrays[name].shape, _torch_shape(leaf, param.shape)
            problems.append(f"shape: {name} is {theirs} in PyTorch and {ours} here")
    if problems:
        raise ValueError("the state_dict does not fit:\n" + "\n".join(problems))
    for name, (leaf, param) in params.items():
        param[...] = jnp.asarray(_to_jax(leaf, arrays[name]), param.dtype)
    return model


def torch_shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """PyTorch name -> PyTorch shape of every parameter; `model` may be abstract (`eval_shape`)."""
    return {name: _torch_shape(leaf, param.shape) for name, (leaf, param) in _named_params(model)}


def relative_error(ours: Any, theirs: Any) -> float:
    """max|ours - theirs| / max|theirs|; inf where shapes differ or a value is not finite."""
    a, b = (np.asarray(_numpy(x), np.float64) for x in (ours, theirs))
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())


def randomize_torch(module: Any, seed: int = 0) -> Any:
    """Gives every parameter of a torch module a random value, so that none hides at 0 or 1.

    Matrices and convolutions keep the scale of their fan-in; vectors stay near what they were.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in module.parameters():
            noise = torch.randn(param.shape, generator=generator)
            if param.ndim > 1:
                param.copy_(noise / max(1, param[0].numel()) ** 0.5)
            else:
                param.add_(0.1 * noise)
    return module


def _named_params(model: nnx.Module) -> Iterator[tuple[str, tuple[str, nnx.Param]]]:
    """(PyTorch name, (our leaf name, parameter)) in the order of the graph."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Param):
            *parents, leaf = (str(part) for part in path)
            name = "weight" if leaf in _WEIGHTS else leaf
            yield ".".join([*parents, name]), (leaf, node)


def _torch_shape(leaf: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if leaf != "kernel":
        return tuple(shape)
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else (shape[1], shape[0])


def _to_jax(leaf: str, array: np.ndarray) -> np.ndarray:
    if leaf != "kernel":
        return array
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _numpy(tensor: Any) -> np.ndarray:
    if isinstance(tensor, jax.Array):
        return np.asarray(tensor.astype(jnp.float32))
    return tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else np.asarray(tensor)
