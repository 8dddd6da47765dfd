"""Held-out pictures, which nothing may be trained on: they decide when a loop stops."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.case import Case
from mre_jax.io.files import write_atomically
from mre_jax.io.image import FORMATS, read_image
from mre_jax.io.json_file import read_object, to_bytes

Digest = tuple[tuple[int, int], str]
"""Size and SHA-256 of a picture's pixels."""


def check_apart(cases: Sequence[Case], sources: Sequence[RecordSource], mark: Path) -> None:
    """Compares held-out pictures with those of the training sets, pixel by pixel, once.

    A copy in another file format without loss is found; one that was scaled or compressed is not.

    Args:
        cases: the held-out benchmark.
        sources: sets that are trained on.
        mark: file that notes what was compared. If it has the same already, nothing is read.

    Raises:
        ConfigError: if there are fewer than two pictures.
        DataError: naming a picture that stands in a training set.
    """
    pictures = {case.original: digest(read_image(case.original)) for case in cases}
    if len(pictures) < 2:
        raise ConfigError("--held-out: one picture is too few to tell a rise; give two or more")
    compared = {
        "held_out": sorted(found for _, found in pictures.values()),
        "sets": [source.manifest.hash for source in sources],
    }
    if mark.exists() and read_object(mark) == compared:
        return
    places = {found: path for path, found in pictures.items()}
    sizes = {size for size, _ in places}
    for source in sources:
        for triplet in _read(source):
            for name, picture in (("original", triplet.original), ("edited", triplet.edited)):
                if not _may_be(picture, sizes):
                    continue
                decoded = getattr(triplet, f"{name}_image")()
                if (path := places.get(digest(decoded))) is not None:
                    raise DataError(
                        f"{path}: held out, and the {name} picture of {triplet.id} of "
                        f"{source.path} too; leave it out of one of them"
                    )
    write_atomically(mark, to_bytes(compared))


def digest(image: Image.Image) -> Digest:
    """What equal pictures share, whatever their files."""
    return image.size, hashlib.sha256(image.tobytes()).hexdigest()


def _read(source: RecordSource) -> Iterator[Triplet]:
    numbers = tqdm(range(len(source)), desc="compare with held-out", unit="example", disable=None)
    return (source[number] for number in numbers)


def _may_be(picture: bytes, sizes: set[tuple[int, int]]) -> bool:
    """Whether a picture has one of these sizes, upright or turned, by its header alone."""
    try:
        with Image.open(io.BytesIO(picture), formats=FORMATS) as image:
            return bool({image.size, image.size[::-1]} & sizes)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True  # whoever decodes it says what is wrong with it
