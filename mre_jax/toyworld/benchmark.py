"""The held-out benchmark, laid out as Real-Edit: pictures with seven instructions each.

images/000.jpg ...    the source pictures
instructions.json     {image file: ["1. Local: ...", ..., "7. Style: ..."]}
scenes.json           {image file: {"scene": ..., "edits": [7]}}, what the exact judge needs
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from mre_jax.errors import DataError
from mre_jax.io.files import write_atomically
from mre_jax.reward.edit_types import EDIT_TYPES
from mre_jax.toyworld.edits import Edits, draw_edits, instructions
from mre_jax.toyworld.scene import Scenes, draw_scenes, render, streams
from mre_jax.toyworld.triplets import HELD_OUT, ImageFormat, encode


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """All edits of a benchmark: row 7 i + j is edit j of image i.

    `judge.score(benchmark.scenes, benchmark.edits, edited_images)` scores them.
    """

    files: list[str]
    scenes: Scenes
    edits: Edits


def write_benchmark(
    folder: Path, *, scenes: int, seed: int, size: int, image_format: ImageFormat
) -> None:
    """Draw held-out scenes and write them with all their instructions."""
    rngs = streams(seed, HELD_OUT, range(scenes))
    drawn = draw_scenes(rngs, held_out=True)
    kinds = [np.full(scenes, kind) for kind in range(len(EDIT_TYPES))]
    edits = [draw_edits(drawn, kind, rngs) for kind in kinds]
    asked = [instructions(drawn, edit) for edit in edits]
    words, described = {}, {}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    columns = zip(drawn.to_json(), *(edit.to_json() for edit in edits), strict=True)
    for row, (scene, *changes) in enumerate(columns):
        name = f"{row:03d}.{image_format}"
        picture = render(drawn[row : row + 1], size)[0]
        write_atomically(folder / "images" / name, encode(picture, image_format))
        words[name] = [
            f"{number}. {kind}: {sentences[row]}"
            for number, (kind, sentences) in enumerate(zip(EDIT_TYPES, asked, strict=True), start=1)
        ]
        described[name] = {"scene": scene, "edits": changes}
    write_json(folder / "instructions.json", words)
    write_json(folder / "scenes.json", described)


def write_json(path: Path, value: Any) -> None:
    """A readable JSON file, the same bytes for the same value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_benchmark(folder: Path) -> Benchmark:
    """Read `scenes.json` of a benchmark folder.

    Example:
        >>> benchmark = read_benchmark(Path("toy/benchmark"))
        >>> len(benchmark.files), set(benchmark.files)
        (7, {'000.png'})

    Raises:
        DataError: the file is missing, damaged, or describes no scenes of the toy world.
    """
    path = folder / "scenes.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            (name, item["scene"], edit)
            for name, item in described.items()
            for edit in item["edits"]
        ]
        names, scenes, edits = (list(column) for column in zip(*rows, strict=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a toy benchmark's scenes ({error!r})") from error
    return Benchmark(names, Scenes.from_json(scenes), Edits.from_json(edits))
