"""A network as a flat dictionary of arrays: what optimizer, checkpoint and shardings work on."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
from flax import nnx

Parameters: TypeAlias = dict[str, jax.Array]
"""Arrays by dotted path: "down_blocks.0.resnets.0.conv1.kernel"."""


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """All of a module but its arrays.

    Attributes:
        graph: its static half.
        variables: its parameters' paths and types, with abstract values.
    """

    graph: Any
    variables: tuple[tuple[tuple[Any, ...], nnx.Variable], ...]

    @classmethod
    def of(cls, module: nnx.Module) -> "Network":
        """Of a module that may be abstract, from `nnx.eval_shape`."""
        graph, state = nnx.split(module)
        return cls(graph, tuple(nnx.to_flat_state(state)))

    @property
    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every parameter."""
        return {
            name: jax.ShapeDtypeStruct(variable.shape, variable.dtype)
            for name, variable in zip(self.names, (v for _, v in self.variables), strict=True)
        }

    @property
    def names(self) -> list[str]:
        """Dotted paths of the parameters."""
        return [".".join(map(str, path)) for path, _ in self.variables]

    def module(self, parameters: Mapping[str, Any]) -> Any:
        """The module with these arrays; it shares none of its variables with another."""
        state = nnx.from_flat_state(
            [
                (path, variable.replace(parameters[name]))
                for name, (path, variable) in zip(self.names, self.variables, strict=True)
            ]
        )
        return nnx.merge(self.graph, state)


def parameters_of(module: nnx.Module) -> Parameters:
    """The arrays of a module, by dotted path."""
    flat = nnx.to_flat_state(nnx.split(module)[1])
    return {".".join(map(str, path)): variable[...] for path, variable in flat}
