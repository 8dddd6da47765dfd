"""Reason-Edit in small, laid out as it is published."""

import numpy as np
from PIL import Image, ImageDraw

from mre_jax.evaluation.suites.reason_edit_folder import REASONING, UNDERSTANDING
from tests.evaluation.metric_pictures import pictures

FOLDERS = (*UNDERSTANDING, *REASONING)
BOX = (8, 16, 40, 56)
"""Left, top, right and bottom of the white of every mask, both ends included."""


def write_benchmark(root, count=2, size=(64, 64)):
    """Pictures, masks and lines of all six classes; returns the folder."""
    for number, name in enumerate(FOLDERS):
        folder = root / name
        folder.mkdir(parents=True)
        for index, picture in enumerate(pictures([size] * count, seed=number), 1):
            picture.save(folder / f"{index:04d}.png")
            write_mask(folder / f"{index:04d}_mask.jpg", size)
        lines = [
            f"turn thing {index} into a cat CLIP: a cat {index}" for index in range(1, count + 1)
        ]
        (folder / f"{name}_text.txt").write_text("\n".join(lines) + "\n")
    return root


def write_mask(path, size=(64, 64), box=BOX):
    """JPEG, whose edges are neither black nor white."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rectangle(box, fill=255)
    mask.save(path, quality=75)


def write_edits(root, out, change=30):
    """An edit of each picture, lighter everywhere, called as its item."""
    out.mkdir()
    for name in FOLDERS:
        for path in sorted((root / name).glob("*.png")):
            pixels = np.asarray(Image.open(path)).astype(int) + change
            kind = name.partition("-")[2]
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
                out / f"{kind}-{path.stem}.png"
            )
    return out
