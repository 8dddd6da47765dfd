"""Editing a whole list of pictures: grouped by shape, padded, resumable.

While the device edits one batch, the next one's pictures are read and the last one's are written.
"""

import collections
import contextlib
import dataclasses
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from mre_jax.editing.items import Item
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.request import EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import BusyError, DataError
from mre_jax.image import to_pil

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Items that run together, all at one (width, height)."""

    items: tuple[Item, ...]
    size: Size

    def requests(self) -> list[EditRequest]:
        """Reads the pictures."""
        return [item.request(self.size) for item in self.items]


def sample(
    pipeline: EditPipeline,
    items: Sequence[Item],
    folder: OutputFolder,
    settings: SamplingSettings,
    *,
    size: str | Size,
    resolution: int,
    batch_size: int,
    checkpoint: str,
) -> int:
    """Edits every item that `folder` does not hold yet; returns how many those were.

    Args:
        items: all of them, of every shard; this shard takes each `folder.count`-th.
        folder: opened.
        size, resolution: see `mre_jax.editing.size.target_size`.
        batch_size: edits that run together, over all devices.
        checkpoint: hash of the weights, for the result rows.

    Raises:
        ConfigError: if the checkpoint cannot do what an item asks.
        DataError: if an item's picture cannot be read, or an edit of its id but of another
            request is there.
        BusyError: if a SIGTERM asked to stop. Batches that are done are written; the one on the
            device is begun again by the next run.
    """
    pipeline.check([item.blank_request() for item in items], settings)
    mine = items[folder.index :: folder.count]
    finished = folder.finished()
    for item in mine:
        if item.id in finished:
            _check_same(item, finished[item.id])
    todo = [item for item in mine if item.id not in finished]
    batches = list(_batches(pipeline, todo, settings, size, resolution, batch_size))
    with (
        _sigterm_noted() as stop_asked,
        tqdm(total=len(mine), initial=len(mine) - len(todo), unit="image") as bar,
    ):
        for batch, pixels in _edited(pipeline, batches, settings, batch_size):
            rows = [_row(item, batch.size, settings, checkpoint) for item in batch.items]
            folder.write([(row, to_pil(p)) for row, p in zip(rows, pixels, strict=True)])
            bar.update(len(rows))
            if stop_asked():
                raise BusyError(f"stopped by SIGTERM after {bar.n} of {len(mine)}; run it again")
    folder.merge([item.id for item in mine])
    return len(todo)


def _batches(
    pipeline: EditPipeline,
    items: Sequence[Item],
    settings: SamplingSettings,
    size: str | Size,
    resolution: int,
    batch_size: int,
) -> Iterator[Batch]:
    groups: dict[Any, list[Item]] = collections.defaultdict(list)
    for item in items:
        branches = pipeline.guidance([item.blank_request()], settings).branches
        groups[item.size(size, resolution), branches].append(item)
    for (target, _), group in groups.items():
        for start in range(0, len(group), batch_size):
            yield Batch(tuple(group[start : start + batch_size]), target)


def _edited(
    pipeline: EditPipeline,
    batches: Sequence[Batch],
    settings: SamplingSettings,
    batch_size: int,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with its pixels, one batch behind the device."""
    with ThreadPoolExecutor(1) as reader:
        reading: Future[list[EditRequest]] | None = None
        running: tuple[Batch, jax.Array] | None = None
        for index, batch in enumerate(batches):
            requests = batch.requests() if reading is None else reading.result()
            if index + 1 < len(batches):
                reading = reader.submit(batches[index + 1].requests)
            started = pipeline.edit_batch(requests, settings, batch_size=batch_size)
            if running is not None:
                yield running[0], np.asarray(running[1])
            running = batch, started
        if running is not None:
            yield running[0], np.asarray(running[1])


def _row(item: Item, size: Size, settings: SamplingSettings, checkpoint: str) -> dict[str, Any]:
    return {
        "id": item.id,
        "file": f"images/{item.id}.png",
        "image": item.image,
        "size": list(size),
        "request": _as_json(item),
        "settings": dataclasses.asdict(settings),
        "checkpoint": checkpoint,
        "meta": item.meta,
    }


def _check_same(item: Item, row: Mapping[str, Any]) -> None:
    for name, value in _as_json(item).items():
        if row["request"].get(name) != value:
            raise DataError(
                f"item {item.id} was edited with {name} = {row['request'].get(name)!r}, not "
                f"{value!r}: give it another id, or take another --out"
            )


def _as_json(item: Item) -> dict[str, Any]:
    """The item's whole request, defaults included, as a result row holds it."""
    request = item.blank_request()
    fields = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)}
    del fields["image"], fields["id"]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


@contextlib.contextmanager
def _sigterm_noted() -> Iterator[Callable[[], bool]]:
    """A function that tells whether a SIGTERM came; it kills nothing meanwhile."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
