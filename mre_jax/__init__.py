"""Instruction-based image editing with multi-perspective rewards as a condition, in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mre_jax.editing.edit_photo import edit_photo
    from mre_jax.editing.model_spec import ModelSpec
    from mre_jax.editing.pipeline import EditPipeline
    from mre_jax.editing.request import EditConditions, EditRequest
    from mre_jax.editing.sample import sample
    from mre_jax.editing.settings import SamplingSettings
    from mre_jax.editing.spec import EditSpec, SampleSpec
    from mre_jax.models.reward import RewardInputs
    from mre_jax.weights.load import load_unet

__version__ = "0.1.0"
__all__ = [
    "EditConditions",
    "EditPipeline",
    "EditRequest",
    "EditSpec",
    "ModelSpec",
    "RewardInputs",
    "SampleSpec",
    "SamplingSettings",
    "edit_photo",
    "load_unet",
    "sample",
]

_PLACES = {
    "EditConditions": "mre_jax.editing.request",
    "EditPipeline": "mre_jax.editing.pipeline",
    "EditRequest": "mre_jax.editing.request",
    "EditSpec": "mre_jax.editing.spec",
    "ModelSpec": "mre_jax.editing.model_spec",
    "RewardInputs": "mre_jax.models.reward",
    "SampleSpec": "mre_jax.editing.spec",
    "SamplingSettings": "mre_jax.editing.settings",
    "edit_photo": "mre_jax.editing.edit_photo",
    "load_unet": "mre_jax.weights.load",
    "sample": "mre_jax.editing.sample",
}


def __getattr__(name: str) -> Any:
    """Imports the public names on first use: JAX takes seconds, and `mre --help` needs none."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
