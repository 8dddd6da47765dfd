"""Editing a whole list of pictures, resumable; each batch is written while the next is edited."""

import contextlib
import dataclasses
import importlib.metadata
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
from PIL import Image
from tqdm import tqdm

from mre_jax.editing.batching import edit_in_batches
from mre_jax.editing.items import Item, read_items
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.pipeline import EditPipeline
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import Size, parse_size
from mre_jax.editing.spec import SampleSpec
from mre_jax.errors import BusyError, DataError
from mre_jax.io.image import to_pil

_SHOWN = 10
"""Failures that are shown while the others go on."""


class Sampled(NamedTuple):
    """What a list of edits came to.

    Attributes:
        made: edits that were made now.
        items: edits in the list.
    """

    made: int
    items: int


class EditsFailed(DataError):
    """Some edits could not be made; all others are there.

    Attributes:
        reasons: by the edits' ids.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]):
        super().__init__(message)
        self.reasons = dict(reasons)


def sample(spec: SampleSpec) -> Sampled:
    """Makes the edits of a list that the folder does not hold yet.

    The list is checked before the model is loaded; every batch runs on all of this host's devices.

    Raises:
        MreError: naming the option, line, file or setting that is wrong, or as `sample_items`.

    Example:
        `TOY` is `mre_jax.toyworld.EDITOR`, and `items.jsonl` lists one edit.

        >>> model = ModelSpec(model=TOY)
        >>> sampling = SamplingSettings(num_inference_steps=1)
        >>> spec = SampleSpec(
        ...     model=model, sampling=sampling, size="keep", items="items.jsonl", out="edits"
        ... )
        >>> sample(spec)
        Sampled(made=1, items=1)
        >>> sample(spec)  # all of it is there
        Sampled(made=0, items=1)
    """
    items = read_items(spec.items, spec.conditions)
    pipeline = spec.model.load().to_devices()
    shard = spec.shard or (jax.process_index(), jax.process_count())
    made = sample_items(
        pipeline,
        items,
        OutputFolder(spec.out, shard),
        model=spec.model,
        sampling=spec.sampling,
        size=spec.size,
        resolution=spec.resolution,
        batch_size=spec.batch_size,
    )
    return Sampled(made, len(items))


def sample_items(
    pipeline: EditPipeline,
    items: Sequence[Item],
    folder: OutputFolder,
    *,
    model: ModelSpec,
    sampling: SamplingSettings,
    size: str | Size,
    resolution: int,
    batch_size: int,
) -> int:
    """Edits every item that `folder` does not hold yet; returns how many those were.

    An item whose picture cannot be read, or whose edit is not finite, does not stop the others: it
    gets no row, so that the next run tries it again.

    Args:
        pipeline: `model`, loaded, on all devices that are to share a batch.
        items: all of them, of every shard; this shard takes each `folder.count`-th.
        size, resolution: see `mre_jax.editing.size.target_size`.
        batch_size: edits that run together on each device.

    Raises:
        ConfigError: if the checkpoint cannot do what an item asks, the memory does not suffice, or
            the folder was begun with other settings.
        DataError: if an edit of an item's id but of another request is there.
        EditsFailed: when all others are made, if some failed; `folder.failed` says why too.
        BusyError: if a SIGTERM asked to stop. Batches that are done are written; the one on the
            device is begun again by the next run. Also if another process fills the folder.
    """
    settings = {
        **pipeline.provenance,
        **dataclasses.asdict(sampling),
        "size": size,
        "resolution": resolution,
        "dtype": model.dtype,
        "attention": model.attention,
        "batch_size": batch_size,
        "platform": jax.default_backend(),
    }
    versions = {name: importlib.metadata.version(name) for name in ("mre_jax", "jax", "flax")}
    pipeline.check([item.request for item in items], sampling)
    mine = items[folder.index :: folder.count]
    with folder.opened(settings, versions):
        finished = folder.finished()
        for item in mine:
            if item.id in finished:
                _check_same(item, finished[item.id])
        todo = [item for item in mine if item.id not in finished]
        failed = _Failures()
        sized = _with_sizes(todo, parse_size(size), resolution, failed)
        done = len(mine) - len(todo)
        with (
            _sigterm_noted() as stop_asked,
            tqdm(total=len(mine), initial=done, unit="image", disable=None) as bar,
        ):
            for batch in _edited(pipeline, sized, sampling, batch_size, failed):
                if batch:
                    folder.write(batch)
                done += len(batch)
                bar.update(len(batch))
                if stop_asked():
                    raise BusyError(f"stopped by SIGTERM after {done} of {len(mine)}; run it again")
        folder.merge([item.id for item in mine], failed)
    if failed:
        first = next(iter(failed))
        raise EditsFailed(
            f"{len(failed)} of {len(mine)} edits failed, as {first!r} ({failed[first]}); see "
            f"{folder.failed}, and run it again for these",
            failed,
        )
    return len(todo)


class _Failures(dict[str, str]):
    """Why edits could not be made, by the items' ids; the first few are shown at once."""

    def note(self, item: Item, reason: str) -> None:
        self[item.id] = reason
        if len(self) <= _SHOWN:
            warnings.warn(f"item {item.id}: {reason}", stacklevel=2)


def _with_sizes(
    items: Sequence[Item], preset: str | Size, resolution: int, failed: _Failures
) -> list[tuple[Item, Size]]:
    """The items whose pictures can be opened, with the sizes of their edits."""
    sized = []
    for item in items:
        try:
            sized.append((item, item.size(preset, resolution)))
        except DataError as error:
            failed.note(item, str(error))
    return sized


def _edited(
    pipeline: EditPipeline,
    sized: Sequence[tuple[Item, Size]],
    sampling: SamplingSettings,
    batch_size: int,
    failed: _Failures,
) -> Iterator[list[tuple[dict[str, Any], Image.Image]]]:
    """The result rows and pictures of each batch, without the edits that failed."""
    for batch in edit_in_batches(
        pipeline,
        [item.request for item, _ in sized],
        [size for _, size in sized],
        lambda place: sized[place][0].read(sized[place][1]),
        sampling,
        batch_size=batch_size * pipeline.device_count,
    ):
        made = []
        for place, found in batch.items():
            item, size = sized[place]
            if isinstance(found, DataError):
                failed.note(item, str(found))
            else:
                made.append((_row(item, size, sampling, pipeline.provenance), to_pil(found)))
        yield made


def _row(
    item: Item, size: Size, sampling: SamplingSettings, provenance: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "id": item.id,
        "file": f"images/{item.id}.png",
        "image": item.image,
        "size": list(size),
        "request": _as_json(item),
        "settings": dataclasses.asdict(sampling),
        **provenance,
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
    fields = {"prompt": item.request.prompt, **dataclasses.asdict(item.request)}
    del fields["id"]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


@contextlib.contextmanager
def _sigterm_noted() -> Iterator[Callable[[], bool]]:
    """A function that says whether a SIGTERM came; it kills nothing meanwhile."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
