"""Which arrays of a run's networks are trained, and their names in its state.

`model.trained` names networks, and parts of the language model. A run of the UNet alone has the
names of its paths in `State.params`; any other has the network's name before them. What is not
trained is in `Frozen.networks`, under the same paths. The rows of added tokens are arrays of their
own beside the whole embedding and head, whose own rows of these tokens are not read.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mre_jax.models.layers import Buffer
from mre_jax.models.new_tokens import with_new_rows
from mre_jax.models.smartedit_encoder import SmartEditEncoder
from mre_jax.training.state import Network, Parameters
from mre_jax.weights.files.folder import SMARTEDIT
from mre_jax.weights.load import encoder_of

EMBEDDING, HEAD = "model.embed_tokens.embedding", "lm_head.kernel"
EMBEDDING_ROWS, HEAD_ROWS = "model.embed_tokens.new_rows", "lm_head.new_rows"
"""Of the language model: paths of its vocabulary, and of the rows [n d] that stand for the last."""

ALONE = ("unet",)
"""What is trained where names have no network before them."""

_ADAPTER = (".lora_A.", ".lora_B.")


def computes_in_float32(name: str) -> bool:
    """Whether the array of this name in the state is read in float32, whatever the UNet's dtype.

    The UNet's are not; SmartEdit's networks are, as in the official code, and what is trained of
    its language model casts its own.
    """
    return name.partition(".")[0] in SMARTEDIT


def by_component(params: Mapping[str, Any], parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A state's parameters by network, and there by path.

    Args:
        parts: of `model.trained`.
    """
    if tuple(parts) == ALONE:
        return {"unet": dict(params)}
    found: dict[str, dict[str, Any]] = {}
    for name, array in params.items():
        component, _, path = name.partition(".")
        found.setdefault(component, {})[path] = array
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetworks:
    """The networks that a step runs, all but their arrays.

    Attributes:
        networks: by component, as `mre_jax.weights.model.Component.name`.
        parts: of `model.trained`.
        new_tokens: how many rows of the vocabulary are those of added tokens.
    """

    networks: Mapping[str, Network]
    parts: tuple[str, ...] = ALONE
    new_tokens: int = 0

    @property
    def abstract(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of all that is trained, float32, by its name in the state."""
        found: dict[str, jax.ShapeDtypeStruct] = {}
        for component in self.networks:
            arrays = self._abstract(component)
            found |= {self._name(component, path): arrays[path] for path in arrays}
        return found

    def trains(self, component: str) -> bool:
        """Whether a network has an array that is trained."""
        return bool(self._abstract(component))

    def freezes(self, component: str) -> bool:
        """Whether a network has an array that is not."""
        return bool(self.frozen_names(component))

    def frozen_names(self, component: str) -> set[str]:
        """Paths of a network's arrays that are not trained."""
        return set(self.networks[component].names) - set(self._abstract(component))

    def split(self, component: str, arrays: Parameters) -> tuple[Parameters, Parameters]:
        """What is trained of a network's arrays, by its names in the state; and what is not.

        The rows of added tokens are taken out of the vocabulary, float32.
        """
        whole = dict(arrays)
        if self._has_new_rows(component):
            whole[EMBEDDING_ROWS] = arrays[EMBEDDING][-self.new_tokens :]
            whole[HEAD_ROWS] = arrays[HEAD][:, -self.new_tokens :].T
        trained = {self._name(component, path): whole[path] for path in self._abstract(component)}
        frozen = self.frozen_names(component)
        return trained, {path: value for path, value in arrays.items() if path in frozen}

    def trained_of(self, component: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """The trained arrays of a network, by their paths in it."""
        return {path: params[self._name(component, path)] for path in self._abstract(component)}

    def module(
        self, component: str, params: Parameters, frozen: Mapping[str, Parameters] | None
    ) -> Any:
        """A network with its arrays, trained and frozen."""
        trained = self.trained_of(component, params)
        rows = trained.pop(EMBEDDING_ROWS, None), trained.pop(HEAD_ROWS, None)
        module = self.networks[component].module({**(frozen or {}).get(component, {}), **trained})
        return module if rows[0] is None else with_new_rows(module, *rows)

    def encoder(
        self, params: Parameters, frozen: Mapping[str, Parameters] | None
    ) -> SmartEditEncoder:
        """SmartEdit's encoder with its arrays."""
        return encoder_of({part: self.module(part, params, frozen) for part in SMARTEDIT})

    def _name(self, component: str, path: str) -> str:
        return path if self.parts == ALONE else f"{component}.{path}"

    def _has_new_rows(self, component: str) -> bool:
        return component == "llm" and "new_tokens" in self.parts

    def _abstract(self, component: str) -> dict[str, jax.ShapeDtypeStruct]:
        network = self.networks[component]
        buffers = {
            name
            for name, (_, variable) in zip(network.names, network.variables, strict=True)
            if isinstance(variable, Buffer)
        }
        found = {
            name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
            for name, leaf in network.abstract.items()
            if name not in buffers and self._is_trained(component, name)
        }
        if self._has_new_rows(component):
            shape = (self.new_tokens, network.abstract[EMBEDDING].shape[1])
            rows = jax.ShapeDtypeStruct(shape, jnp.float32)
            found |= {EMBEDDING_ROWS: rows, HEAD_ROWS: rows}
        return found

    def _is_trained(self, component: str, path: str) -> bool:
        if component in self.parts:
            return True
        is_adapter = any(mark in path for mark in _ADAPTER)
        return component == "llm" and "adapters" in self.parts and is_adapter
