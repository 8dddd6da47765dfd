"""What to say of an edit whose numbers stopped being numbers."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from mre_jax.errors import DataError

MEMORY_REMEDIES = "take a smaller size or batch size, bfloat16, or VAE tiling"
"""See `mre_jax.io.memory`."""

_WEIGHTS = "for damaged weights"
_PRECISION = f"take dtype float32 if it was bfloat16, smaller guidance scales, or look {_WEIGHTS}"


class EditsFailed(DataError):
    """Some edits could not be made; all others are there.

    Attributes:
        reasons: by the edits' ids.
    """

    def __init__(self, message: str, reasons: Mapping[str, str]):
        super().__init__(message)
        self.reasons = dict(reasons)


def failure_of(finite: Bool[np.ndarray, " stages"], *, decoded: bool = True) -> str | None:
    """Where an edit first was not finite, and what to look at; None if it was throughout.

    Args:
        finite: of one edit, as `mre_jax.editing.program.Edited` has it.
        decoded: whether the last stage is the VAE's decoder.
    """
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
