"""Editing one photo from file to file, or drawing a grid of its edits over rewards."""

import sys
from pathlib import Path

from etils import epath
from PIL import Image

from mre_jax.editing import grid
from mre_jax.editing.size import fit, parse_size, target_size
from mre_jax.editing.spec import EditSpec
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import read_image, write_png


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
    requests = [request] if spec.sweep is None else grid.requests(request, spec.sweep)

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
    picture = images[0] if spec.sweep is None else grid.draw(request, photo, spec.sweep, images)
    write_png(picture, spec.out)
    return picture


def _check_out(out: epath.PathLike) -> None:
    path = Path(out)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: edits are written as PNG; name it *.png")
    if not path.absolute().parent.is_dir():
        raise DataError(f"--out {out}: no such folder")
    if path.is_dir():
        raise DataError(f"--out {out}: a folder, where a picture is to be written")
