"""The loss on examples that are not trained on, the same ones with the same noise each time."""

import dataclasses
import hashlib
import sys
from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import UInt32

from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import to_global
from mre_jax.data.batches.loader import Loader
from mre_jax.data.batches.order import positions
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError
from mre_jax.training.config import TrainConfig
from mre_jax.training.inputs import Frozen
from mre_jax.training.parallel import Layout
from mre_jax.training.run.meter import by_bin
from mre_jax.training.state import State
from mre_jax.training.step import BinnedLoss

SEED = 0
"""Of the noise, whatever the run's; it must never change, or runs would not compare."""


def open_held_out(config: TrainConfig, training: Loader) -> Loader:
    """The loader of `config.validation.data`: nothing is mirrored or dropped.

    What `data.fit` crops is cropped alike each time.

    Args:
        training: the run's own, whose cache and reward texts it shares the settings of.

    Raises:
        ConfigError: if a set is trained on too.
        DataError: for one that is missing or damaged.
    """
    sources = [RecordSource(path, requests=config.data.requests) for path in config.validation.data]
    hashes = {source.manifest.hash: source.path for source in training.sources}
    for source in sources:
        if source.manifest.hash in hashes:
            raise ConfigError(
                f"validation.data: {source.path} is trained on, as {hashes[source.manifest.hash]}; "
                "hold another set out"
            )
    return dataclasses.replace(
        training,
        sources=sources,
        batch_size=config.data.batch_size // config.optimizer.accumulation,
        seed=SEED,
        weights=None,
        augmentation=dataclasses.replace(training.augmentation, resize_to=None, flip=0),
        dropout=0.0,
        pairs=None,
    )


class HeldOutLoss:
    """Measures it with all devices; all processes call it together.

    Args:
        config: configuration of the run.
        loader: what `open_held_out` gives, with a tokenizer.
        loss: what `make_loss` gives.
        frozen: the arrays it reads besides.
        layout: layout of the mesh.
    """

    def __init__(
        self,
        config: TrainConfig,
        loader: Loader,
        loss: BinnedLoss,
        frozen: Frozen,
        layout: Layout,
    ):
        self._loader, self._loss, self._frozen, self._layout = loader, loss, frozen, layout
        epoch = round(loader.steps_per_epoch * loader.batch_size)
        self._count = min(config.validation.examples, epoch)
        self._warned = False

    def __call__(self, state: State) -> dict[str, float]:
        """Of the moving average, or of the parameters where there is none.

        Returns:
            "held_out_loss", the mean of the examples' unweighted losses, and their means by quarter
            of the timesteps. It is not finite if that of an example is not, which is said once.
        """
        params = state["ema"] or state["params"]
        sums = [self._loss(params, self._frozen, batch, self._count) for batch in self._batches()]
        by_batch = np.array(jax.device_get(sums))
        self._warn_of_bad(np.flatnonzero(~np.isfinite(by_batch).all(axis=(1, 2))).tolist())
        losses, counts = by_batch.sum(axis=0)
        rows = by_bin("held_out_loss_time", [(losses, counts)])
        return {"held_out_loss": float(losses.sum() / counts.sum()), **rows}

    def _warn_of_bad(self, steps: list[int]) -> None:
        """Names the examples of the first batch whose loss is not finite, on one process."""
        if not steps or self._warned:
            return
        self._warned = True
        if jax.process_index() == 0:
            where = positions(steps[0], self._loader.batch_size)
            last = self._count - steps[0] * self._loader.batch_size
            found = list(self._loader.find(where))[:last]
            ids = ", ".join(f"{source[record].id} of {source.path}" for source, record in found)
            print(
                f"warning: the held-out loss is not finite, in {len(steps)} of its batches; mend "
                f"or leave out what is bad of the first: {ids}",
                file=sys.stderr,
            )

    def _batches(self) -> Iterator[Batch]:
        steps = -(-self._count // self._loader.batch_size)
        for step, batch in enumerate(self._loader.batches(0, steps)):
            where = positions(step, self._loader.batch_size, self._loader.host, self._loader.hosts)
            keys = np.stack([noise_key(triplet.id) for _, triplet, _ in self._loader.read(where)])
            yield to_global(batch._replace(key_data=keys), self._layout.mesh)


def noise_key(example: str) -> UInt32[np.ndarray, " 2"]:
    """The key of an example's noise and timestep, by its id."""
    digest = hashlib.sha256(f"{SEED} {example}".encode()).digest()
    return np.frombuffer(digest[:8], "<u4").astype(np.uint32)
