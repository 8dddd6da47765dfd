"""Edits that a run makes of itself now and then, with the same pictures and noise each time."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool, UInt8
from PIL import Image

from mre_jax.editing.items import read_items
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.request import EditConditions, EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import DataError
from mre_jax.io.contact_sheet import INK, Cell, Strip, contact_sheet, grade
from mre_jax.io.devices import batch_mesh
from mre_jax.io.image import write_png
from mre_jax.training.config import TrainConfig
from mre_jax.training.parallel import Layout
from mre_jax.training.pretrained import compute_of
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.start import Start
from mre_jax.training.state import Parameters, State
from mre_jax.weights.load import Model

_BATCH = 8
"""Edits at a time on a device."""


class Validation:
    """Makes the edits and shows them in RUN/validation.

    Every process edits its share with all its devices, and process 0 shows all of them.
    """

    def __init__(
        self,
        config: TrainConfig,
        start: Start,
        layout: Layout,
        run: RunDirectory,
    ):
        """Reads the list of edits, so that a mistake in it ends the run before it begins.

        Args:
            start: with the frozen networks; `RequiredNetworks.edits` asked for them.

        Raises:
            DataError: naming the line or picture.
        """
        validation = config.validation
        conditions = EditConditions(
            guidance_scale=validation.guidance_scale,
            image_guidance_scale=validation.image_guidance_scale,
        )
        items = read_items(str(validation.items), conditions)[: validation.count]
        size = config.data.resolution
        self._requests = [item.request for item in items]
        self._pictures = [item.read((size, size)) for item in items]
        self._settings = SamplingSettings(validation.steps)
        self._model, self._unet, self._schedule = config.model, start.unet, start.schedule
        self._parts, self._files = tuple(start.parts.items()), start.files
        self._run = run
        # The edits are made under it, since the run's mesh is of all processes' devices.
        self._local = batch_mesh()
        self._side = size
        dtype = compute_of(config.model).dtype
        # Cast first, as in a step: half the bytes travel, and the network computes the same.
        self._gather = jax.jit(
            lambda params: {k: x.astype(dtype) if x.ndim > 1 else x for k, x in params.items()},
            out_shardings=layout.replicated,
        )

    def __call__(self, state: State, done: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """Edits with the moving average, or with the parameters where there is none.

        An edit that is not finite is said in a warning, and its place in the sheet says so.

        All processes call this together.

        Returns:
            The sheet; None on processes that do not show it.
        """
        params = self._gather(state["ema"] or state["params"])
        whole = _local(params)
        share = slice(jax.process_index(), None, jax.process_count())
        mine, pictures = self._requests[share], self._pictures[share]
        batch_size = max(1, min(len(mine), _BATCH * self._local.size))
        with jax.set_mesh(self._local):
            pipeline = self._pipeline(whole).to_devices()
            edited = pipeline.edit_or_fail(mine, pictures, self._settings, batch_size=batch_size)
        for error in edited:
            if isinstance(error, DataError):
                warnings.warn(f"validation after step {done}: {error}", stacklevel=2)
        if jax.process_count() > 1:
            most = -(-len(self._requests) // jax.process_count())
            packed = pack(edited, most, self._side)
            gathered, made = multihost_utils.process_allgather(packed)
            edited = unpack(gathered, made, len(self._requests))
        if jax.process_index() != 0:
            return None
        sheet = draw_sheet(self._requests, self._pictures, edited)
        write_png(Image.fromarray(sheet), self._run.validation / f"{done:08d}.png")
        return sheet

    def _pipeline(self, params: Any) -> EditPipeline:
        networks = {name: network.module(_local(arrays)) for name, (network, arrays) in self._parts}
        model = Model(
            self._unet.module(params),
            **networks,
            files=self._files,
            configs={},
            origin=self._model.init_from,
            weights="only",
            base=self._model.base,
        )
        pipeline = EditPipeline(model)
        pipeline.schedule = self._schedule
        return pipeline


def _local(arrays: Parameters) -> Parameters:
    """This process's copies of arrays that every device has a copy of."""
    return {name: x.addressable_data(0) for name, x in arrays.items()}


def pack(
    edited: Sequence[Image.Image | DataError], share: int, side: int
) -> tuple[UInt8[np.ndarray, "share side side 3"], Bool[np.ndarray, " share"]]:
    """A process's edits, `share` at most, as arrays of one size; and which of them are edits."""
    pictures, made = np.zeros((share, side, side, 3), np.uint8), np.zeros(share, bool)
    for row, picture in enumerate(edited):
        if not isinstance(picture, DataError):
            pictures[row], made[row] = np.asarray(picture), True
    return pictures, made


def unpack(
    pictures: UInt8[np.ndarray, "processes share side side 3"],
    made: Bool[np.ndarray, "processes share"],
    count: int,
) -> list[Image.Image | DataError]:
    """The edits of all processes, in the order from which they were dealt in turn."""
    processes = len(pictures)
    places = [(number % processes, number // processes) for number in range(count)]
    return [
        Image.fromarray(pictures[place]) if made[place] else DataError("not finite")
        for place in places
    ]


def draw_sheet(
    requests: Sequence[EditRequest],
    originals: Sequence[Image.Image],
    edited: Sequence[Image.Image | DataError],
) -> UInt8[np.ndarray, "H W 3"]:
    """A pair per edit under its instruction: the original, and the result or that there is none."""
    side = max(128, *(max(picture.size) for picture in originals))
    strips = []
    for request, original, picture in zip(requests, originals, edited, strict=True):
        result = Cell(None, [[("not finite", grade(0))]])
        if not isinstance(picture, DataError):
            result = Cell(picture)
        strips.append(Strip([(request.prompt, INK)], [Cell(original), result]))
    return np.asarray(contact_sheet(strips, (side, side), columns=math.isqrt(len(strips))))
