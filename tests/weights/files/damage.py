"""What becomes of files on their way."""

from collections.abc import Iterator

import numpy as np


def damaged(whole: bytes, times: int = 400) -> Iterator[tuple[bool, bytes]]:
    """Whether it is truncated, and the content: in turn with a bit flipped, and truncated."""
    random = np.random.default_rng(0)
    for attempt in range(times):
        content = bytearray(whole)
        if truncated := attempt % 2 == 1:
            content = content[: random.integers(len(content))]
        else:
            content[random.integers(len(content))] ^= 1 << random.integers(8)
        yield truncated, bytes(content)
