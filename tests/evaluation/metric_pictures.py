"""Pictures of many sizes for the tests of the metrics, with edges and smooth parts."""

import numpy as np
from PIL import Image


def pictures(sizes, seed: int = 0) -> list[Image.Image]:
    """One picture for each (width, height)."""
    rng = np.random.default_rng(seed)
    return [_picture(rng, size) for size in sizes]


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(size)
    noisy = np.asarray(coarse).astype(int) + rng.integers(-40, 41, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
