"""Instruction-based image editing with multi-perspective rewards as a condition, in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mre_jax.editing.pipeline import EditPipeline
    from mre_jax.models.reward import RewardInputs
    from mre_jax.weights.load import load_unet

__version__ = "0.1.0"
__all__ = ["EditPipeline", "RewardInputs", "load_unet"]

_PLACES = {
    "EditPipeline": "mre_jax.editing.pipeline",
    "RewardInputs": "mre_jax.models.reward",
    "load_unet": "mre_jax.weights.load",
}


def __getattr__(name: str) -> Any:
    """Imports the public names on first use: JAX takes seconds, and `mre --help` needs none."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
