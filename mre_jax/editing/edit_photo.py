"""Editing one photo from file to file, or drawing a grid of its edits over rewards."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from etils import epath
from PIL import Image

from mre_jax.editing.request import EditRequest
from mre_jax.editing.size import fit, parse_size, target_size
from mre_jax.editing.spec import EditSpec
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.contact_sheet import FAINT, INK, Cell, Strip, contact_sheet, grade
from mre_jax.io.image import read_image, write_png
from mre_jax.reward.scores import BEST, PERSPECTIVES

_NARROWEST = 176
"""Pixels that hold the longest caption of a grid at a scale of 1."""


def edit_photo(spec: EditSpec, *, progress: bool = False) -> Image.Image:
    """Edits the photo, or draws the grid of a sweep; writes the picture and returns it.

    Everything that can be checked is checked before the model is loaded.

    Args:
        progress: whether stderr shows how far it is.

    Raises:
        MreError: naming the option or file that is wrong; as `EditPipeline.edit`.

    Example:
        `TOY` is `mre_jax.toyworld.EDITOR`.

        >>> from mre_jax import ModelSpec, SamplingSettings
        >>> sampling = SamplingSettings(num_inference_steps=1)
        >>> spec = EditSpec(
        ...     model=ModelSpec(model=TOY), sampling=sampling, size="keep",
        ...     photo="photo.png", prompt="make it night", out="night.png",
        ... )
        >>> edit_photo(spec).size
        (32, 32)
    """
    _check_out(spec.out)
    photo = read_image(spec.photo)
    photo = fit(photo, target_size(photo.size, parse_size(spec.size), spec.resolution))
    request = spec.conditions.request(spec.prompt)
    requests = [request] if spec.sweep is None else grid_requests(request, spec.sweep)

    pipeline = spec.model.load()
    pipeline.check(requests, spec.sampling)
    if progress:
        steps = f"{spec.sampling.num_inference_steps} steps at {photo.width}x{photo.height}"
        print(f"editing in {steps}; the first time at a size it is compiled", file=sys.stderr)
    images = pipeline.edit(
        requests,
        [photo] * len(requests),
        spec.sampling,
        batch_size=spec.batch_size,
        progress=progress,
    )
    picture = images[0] if spec.sweep is None else draw_grid(request, photo, spec.sweep, images)
    write_png(picture, spec.out)
    return picture


def grid_requests(request: EditRequest, values: Sequence[float]) -> list[EditRequest]:
    """The edits of a grid, row by row: all scores at each value, then one score at each value.

    In the rows of one score the other two stay as `request` has them, by default at 5.
    """
    scores = request.reward_scores or BEST
    cells = [(value,) * len(scores) for value in values]
    for perspective in range(len(scores)):
        cells += [(*scores[:perspective], value, *scores[perspective + 1 :]) for value in values]
    return [dataclasses.replace(request, reward_scores=cell) for cell in cells]


def draw_grid(
    request: EditRequest,
    original: Image.Image,
    values: Sequence[float],
    images: Sequence[Image.Image],
) -> Image.Image:
    """Lays out the edits of `grid_requests` with their scores, `original` before the first row.

    Pictures too narrow for their captions are enlarged, each pixel to a square.
    """
    factor = -(-_NARROWEST // images[0].width)
    width, height = (side * factor for side in images[0].size)
    left = len(values)
    strips = []
    for row, name in enumerate(("all", *PERSPECTIVES)):
        cells: list[Cell | None] = [
            Cell(image, [[(name, FAINT), (f"{value:g}", grade(value))]])
            for value, image in zip(values, images[row * left : (row + 1) * left], strict=True)
        ]
        first = None if row else Cell(original, [[("original", FAINT)]])
        title = f"{name} alone" if row else request.prompt
        strips.append(Strip([(title, INK)], [first, *cells]))
    return contact_sheet(strips, (width, height), scale=max(1, width // _NARROWEST))


def _check_out(out: epath.PathLike) -> None:
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: edits are written as PNG; name it *.png")
    if not path.absolute().parent.is_dir():
        raise DataError(f"--out {out}: no such folder")
    if path.is_dir():
        raise DataError(f"--out {out}: a folder, where a picture is to be written")
