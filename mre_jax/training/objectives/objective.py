"""What every objective is: a loss in two halves, of which the second is differentiated."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int

from mre_jax.data.batches.batch import Batch
from mre_jax.training.inputs import Frozen
from mre_jax.training.state import Parameters


class Measured(NamedTuple):
    """What is known of a batch besides its loss.

    Attributes:
        errors: unweighted error of each example.
        timesteps: timestep of each example; -1 where there is none.
        weight: weight of each error in the loss.
        counted: which examples count in means by timestep and score; None is all.
        language: what each example adds to the loss of the language model; None without one.
        parts: what the loss is the sum of, by name; means over the batch.
    """

    errors: Float32[Array, " b"]
    timesteps: Int[Array, " b"]
    weight: Float32[Array, " b"]
    counted: Bool[Array, " b"] | None = None
    language: Float32[Array, " b"] | None = None
    parts: Mapping[str, Float32[Array, ""]] = {}

    @property
    def finite(self) -> Bool[Array, " b"]:
        """Whether what each example adds to the loss is."""
        finite = jnp.isfinite(self.errors * self.weight)
        return finite if self.language is None else finite & jnp.isfinite(self.language)


class Objective(Protocol):
    """A loss that is a mean over examples, whatever the parts that a batch is computed in."""

    def whole(self, batch: Batch) -> Batch:
        """The global batch with what an example's share of the loss takes from all of it."""
        ...

    def prepare(self, batch: Batch, frozen: Frozen) -> Any:
        """What does not depend on what is trained."""
        ...

    def loss(
        self, params: Parameters, inputs: Any, frozen: Frozen
    ) -> tuple[Float32[Array, ""], Measured]:
        """The loss of what `prepare` gives."""
        ...

    def measure(self, params: Parameters, inputs: Any, frozen: Frozen) -> Measured:
        """The same without the loss, for examples that are not trained on."""
        ...
