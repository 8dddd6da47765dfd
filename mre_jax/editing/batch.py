"""Editing a whole list of pictures: grouped by shape, padded, resumable.

While the device edits one batch, the next one's pictures are read and the last one's are written.
"""

import collections
import contextlib
import dataclasses
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from mre_jax.editing.failure import MEMORY_REMEDIES, EditsFailed, failure_of
from mre_jax.editing.items import Item
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.program import Edited
from mre_jax.editing.settings import SamplingSettings
from mre_jax.errors import BusyError, DataError
from mre_jax.io.image import to_pil
from mre_jax.io.memory import too_much_is_an_error

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Batch:
    """Items that run together, all at one (width, height)."""

    items: tuple[Item, ...]
    size: Size

    def pictures(self) -> list[Image.Image | DataError]:
        """Reads the pictures; the error stands for one that cannot be read."""
        return [self._picture(item) for item in self.items]

    def _picture(self, item: Item) -> Image.Image | DataError:
        try:
            return item.read(self.size)
        except DataError as error:
            return error


class Failures(dict[str, str]):
    """Why edits could not be made, by the items' ids; the first few are said at once."""

    def note(self, item: Item, reason: str) -> None:
        self[item.id] = reason
        if len(self) <= _SAID:
            warnings.warn(f"item {item.id}: {reason}", stacklevel=2)


_SAID = 10


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

    An item whose picture cannot be read, or whose edit is not finite, does not stop the others: it
    gets no row, so that the next run tries it again.

    Args:
        items: all of them, of every shard; this shard takes each `folder.count`-th.
        folder: opened.
        size, resolution: see `mre_jax.editing.size.target_size`.
        batch_size: edits that run together, over all devices.
        checkpoint: hash of the weights, for the result rows.

    Raises:
        ConfigError: if the checkpoint cannot do what an item asks, or the memory does not suffice.
        DataError: if an edit of an item's id but of another request is there.
        EditsFailed: when all others are made, if some failed; `folder.failed` says why too.
        BusyError: if a SIGTERM asked to stop. Batches that are done are written; the one on the
            device is begun again by the next run.
    """
    pipeline.check([item.request for item in items], settings)
    mine = items[folder.index :: folder.count]
    finished = folder.finished()
    for item in mine:
        if item.id in finished:
            _check_same(item, finished[item.id])
    todo = [item for item in mine if item.id not in finished]
    failed = Failures()
    groups = _groups(pipeline, todo, settings, size, resolution, failed)
    batches = list(_batches(groups, batch_size))
    with (
        too_much_is_an_error(MEMORY_REMEDIES),
        _sigterm_noted() as stop_asked,
        tqdm(total=len(mine), initial=len(mine) - len(todo), unit="image") as bar,
    ):
        for batch, edited in _edited(pipeline, batches, settings, batch_size, failed):
            whole = _finite(batch, edited, failed)
            if whole:
                rows = [_row(item, batch.size, settings, checkpoint) for item, _ in whole]
                pictures = [to_pil(pixels) for _, pixels in whole]
                folder.write(list(zip(rows, pictures, strict=True)))
            bar.update(len(whole))
            if stop_asked():
                raise BusyError(f"stopped by SIGTERM after {bar.n} of {len(mine)}; run it again")
    folder.merge([item.id for item in mine], failed)
    if failed:
        first = next(iter(failed))
        raise EditsFailed(
            f"{len(failed)} of {len(mine)} edits failed, as {first!r} ({failed[first]}); see "
            f"{folder.failed}, and run it again for these",
            failed,
        )
    return len(todo)


def _groups(
    pipeline: EditPipeline,
    items: Sequence[Item],
    settings: SamplingSettings,
    size: str | Size,
    resolution: int,
    failed: Failures,
) -> dict[tuple[Size, Any], list[Item]]:
    """The items that can run together: of one size, with the same branches."""
    groups: dict[tuple[Size, Any], list[Item]] = collections.defaultdict(list)
    for item in items:
        branches = pipeline.guidance([item.request], settings).branches
        try:
            groups[item.size(size, resolution), branches].append(item)
        except DataError as error:
            failed.note(item, str(error))
    return groups


def _batches(groups: Mapping[tuple[Size, Any], list[Item]], batch_size: int) -> Iterator[Batch]:
    for (target, _), group in groups.items():
        for start in range(0, len(group), batch_size):
            yield Batch(tuple(group[start : start + batch_size]), target)


def _edited(
    pipeline: EditPipeline,
    batches: Sequence[Batch],
    settings: SamplingSettings,
    batch_size: int,
    failed: Failures,
) -> Iterator[tuple[Batch, Edited]]:
    """What can be read of each batch with its edits, one batch behind the device."""
    running: tuple[Batch, Edited] | None = None
    for batch, pictures in _read_ahead(batches, failed):
        requests = [item.request for item in batch.items]
        started = pipeline.edit_batch(requests, pictures, settings, batch_size=batch_size)
        if running is not None:
            yield running
        running = batch, started
    if running is not None:
        yield running


def _read_ahead(
    batches: Sequence[Batch], failed: Failures
) -> Iterator[tuple[Batch, list[Image.Image]]]:
    """What can be read of each batch, the next one's pictures meanwhile."""
    with ThreadPoolExecutor(1) as reader:
        reading = collections.deque(reader.submit(batch.pictures) for batch in batches[:1])
        for index, batch in enumerate(batches):
            found = reading.popleft().result()
            reading.extend(reader.submit(b.pictures) for b in batches[index + 1 : index + 2])
            read = []
            for item, picture in zip(batch.items, found, strict=True):
                if isinstance(picture, DataError):
                    failed.note(item, str(picture))
                else:
                    read.append((item, picture))
            if read:
                items, pictures = zip(*read, strict=True)
                yield dataclasses.replace(batch, items=items), list(pictures)


def _finite(batch: Batch, edited: Edited, failed: Failures) -> list[tuple[Item, np.ndarray]]:
    """The items with their pixels, without those that are not finite."""
    images, finite = map(np.asarray, edited)
    whole = []
    for item, pixels, stages in zip(batch.items, images, finite, strict=True):
        if failure := failure_of(stages):
            failed.note(item, f"the edit {failure}")
        else:
            whole.append((item, pixels))
    return whole


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
    fields = dataclasses.asdict(item.request)
    del fields["id"]
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
