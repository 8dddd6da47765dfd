"""Edits batch by batch: the next batch's pictures are read while the device edits."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from mre_jax.editing.inputs import guidance_of
from mre_jax.editing.program import Edited
from mre_jax.editing.request import EditRequest
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import Size
from mre_jax.errors import DataError
from mre_jax.io.memory import too_much_is_an_error

if TYPE_CHECKING:
    from mre_jax.editing.pipeline import EditPipeline

MEMORY_REMEDIES = "take a smaller size or batch size, bfloat16, or VAE tiling"
"""See `mre_jax.io.memory`."""

_WEIGHTS = "for damaged weights"
_PRECISION = f"take dtype float32 if it was bfloat16, smaller guidance scales, or look {_WEIGHTS}"

Latents: TypeAlias = Float[np.ndarray, "b h w c"]
Made: TypeAlias = np.ndarray | DataError
"""Pixels [H W 3] in [0, 1] or latents [h w c] of an edit; or why there are none."""

T = TypeVar("T")


def edit_in_batches(
    editor: "EditPipeline",
    requests: Sequence[EditRequest],
    sizes: Sequence[Size],
    read: Callable[[int], Image.Image],
    settings: SamplingSettings,
    *,
    batch_size: int | None = None,
    latents: Latents | None = None,
    decode: bool = True,
    name: Callable[[int], str] = lambda place: "the edit",
) -> Iterator[dict[int, Made]]:
    """Makes edits in batches of one size and one set of guidance branches.

    The caller has time for the edits of one batch while the device is at work on the next.

    Args:
        sizes: (width, height) of each edit.
        read: picture of a request, by its place in `requests`, at its size; called in a thread.
        batch_size: edits that run together; None takes all of a size.
        latents: noise to start from, one per request.
        decode: False makes latents.
        name: subject of the error of an edit that is not finite, by its place.

    Yields:
        What a batch gave, by places in `requests`.

    Raises:
        ConfigError: if the memory does not suffice.
    """

    def start(
        found: Mapping[int, Image.Image | DataError],
    ) -> tuple[dict[int, Made], list[int], Edited | None]:
        pictures = {place: x for place, x in found.items() if not isinstance(x, DataError)}
        failed: dict[int, Made] = {p: x for p, x in found.items() if isinstance(x, DataError)}
        places = list(pictures)
        if not places:
            return failed, places, None
        edited = editor.edit_batch(
            [requests[place] for place in places],
            list(pictures.values()),
            settings,
            batch_size=batch_size,
            latents=None if latents is None else latents[places],
            decode=decode,
        )
        return failed, places, edited

    batches = _batches(requests, sizes, settings, batch_size)
    with too_much_is_an_error(MEMORY_REMEDIES):
        for made, places, edited in _one_behind(map(start, _read_ahead(batches, read))):
            if edited is not None:
                arrays, finite = np.asarray(edited.images), np.asarray(edited.finite)
                for row, (place, array) in enumerate(zip(places, arrays, strict=True)):
                    told = edited.instruction is None or bool(edited.instruction[row])
                    failure = failure_of(finite[row], decoded=decode, instruction=told)
                    made[place] = DataError(f"{name(place)} {failure}") if failure else array
            yield made


def failure_of(
    finite: Bool[np.ndarray, " stages"], *, decoded: bool = True, instruction: bool = True
) -> str | None:
    """Where an edit first was not finite, and what to look at; None if it was throughout.

    Args:
        finite: stages of one edit, as `mre_jax.editing.program.Edited` has them.
        decoded: whether the last stage is the VAE's decoder.
        instruction: whether what an instruction encoder made before was finite.
    """
    if not instruction:
        return f"is not finite from the language model on: look at the instruction, or {_WEIGHTS}"
    if finite.all():
        return None
    first = int(finite.argmin())
    steps = len(finite) - 2 - decoded
    if first == 0:
        return f"is not finite from the text encoder on: look at the token ids, or {_WEIGHTS}"
    if first == 1:
        return f"is not finite from the VAE's encoder on: {_PRECISION}"
    if first == steps + 2:
        return f"is not finite in the VAE's decoder: {_PRECISION}"
    return f"is not finite from denoising step {first - 1} of {steps} on: {_PRECISION}"


def _batches(
    requests: Sequence[EditRequest],
    sizes: Sequence[Size],
    settings: SamplingSettings,
    batch_size: int | None,
) -> list[list[int]]:
    """Places of requests that can run together: of one size, with the same branches."""
    groups = collections.defaultdict(list)
    for place, (request, size) in enumerate(zip(requests, sizes, strict=True)):
        groups[size, guidance_of([request], settings).branches].append(place)
    return [
        group[start : start + (batch_size or len(group))]
        for group in groups.values()
        for start in range(0, len(group), batch_size or len(group))
    ]


def _read_ahead(
    batches: Iterable[Sequence[int]], read: Callable[[int], Image.Image]
) -> Iterator[dict[int, Image.Image | DataError]]:
    """The pictures of each batch; the next one's are read meanwhile."""

    def read_all(batch: Sequence[int]) -> dict[int, Image.Image | DataError]:
        return {place: _read(read, place) for place in batch}

    with ThreadPoolExecutor(1) as reader:
        reading = (reader.submit(read_all, batch) for batch in batches)
        ahead = next(reading, None)
        while ahead is not None:
            pictures = ahead.result()
            ahead = next(reading, None)
            yield pictures


def _read(read: Callable[[int], Image.Image], place: int) -> Image.Image | DataError:
    try:
        return read(place)
    except DataError as error:
        return error


def _one_behind(started: Iterable[T]) -> Iterator[T]:
    """Each in turn, after the next one is started."""
    waiting: collections.deque[T] = collections.deque()
    for one in started:
        waiting.append(one)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting
