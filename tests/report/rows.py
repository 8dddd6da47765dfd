"""Results of three systems on a little benchmark, with pictures, for the tests of the report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mre_jax.evaluation.results import Result

KINDS = ("Local", "Style")
PHOTOS = 3
PERSPECTIVES = ("following", "preserving", "quality")
ASKED = {
    ("baseline", ""): (2.0, 2.5, 3.0),
    ("reward", "0,0,0"): (1.0, 1.0, 1.0),
    ("reward", "5,5,5"): (4.0, 4.25, 4.5),
    ("reward", "5,0,0"): (3.0, 1.0, 1.25),
    ("reward", "0,5,0"): (1.5, 3.5, 1.0),
    ("reward", "0,0,5"): (1.0, 1.5, 4.0),
}
"""Mean scores, about, of each system at each condition."""


def make_row(**changes) -> Result:
    """One row, with the fields that a test is about."""
    fields = {
        "system": "reward",
        "condition": "5,5,5",
        "suite": "real-edit",
        "item": "0-1",
        "group": "0",
        "kind": "Local",
        "metric": "following",
        "value": 4.0,
        "passed": True,
        "status": "ok",
        "measure": "judge-1",
        "prompt_hash": "abcdef0123456789",
        "checkpoint": "",
        "reason": "",
        "instruction": "make it blue",
        "original": "",
        "edited": "",
    }
    return Result(**{**fields, **changes})


def make_world(folder: Path) -> list[Result]:
    """Six items of three photos, each edited by every system; the pictures are in `folder`.

    Item p-k: photo p, instruction k. An edit's score is its system's mean, plus (p - 1) / 4, plus
    (k - 1) / 4. One score is refused: following of 2-2 by the baseline.
    """
    rows = []
    for photo in range(PHOTOS):
        original = f"photos/{photo}.png"
        _write(folder / original, (60 * photo, 80, 120))
        for number, kind in enumerate(KINDS, 1):
            item = f"{photo}-{number}"
            for place, ((system, condition), means) in enumerate(ASKED.items()):
                edited = f"edits/{place}/{item}.png"
                _write(folder / edited, (40 * place, 100 * number, 50))
                for metric, mean in zip(PERSPECTIVES, means, strict=True):
                    value = mean + (photo - 1) / 4 + (number - 1) / 4
                    refused = (system, item, metric) == ("baseline", "2-2", "following")
                    rows.append(
                        make_row(
                            system=system,
                            condition=condition,
                            item=item,
                            group=str(photo),
                            kind=kind,
                            metric=metric,
                            value=None if refused else value,
                            passed=None if refused else value > 2.5,
                            status="refused" if refused else "ok",
                            reason=f"{metric} of {item} is so",
                            instruction=f"{kind.lower()} edit of photo {photo}",
                            original=original,
                            edited=edited,
                        )
                    )
    return rows


def spread(rows: Sequence[Result]) -> list[Result]:
    """The rows of `make_world` with differences of systems that vary from photo to photo."""
    return [
        dataclasses.replace(row, value=row.value + 0.01 * place * (int(row.group) - 1))
        if row.value is not None
        else row
        for row in rows
        for place in [list(ASKED).index((row.system, row.condition))]
    ]


def _write(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        Image.fromarray(np.full((12, 16, 3), colour, np.uint8)).save(path)
