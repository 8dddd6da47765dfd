"""Which model edits, and how it computes."""

import dataclasses
import os
from typing import TYPE_CHECKING, Literal

from etils import epath

from mre_jax.errors import ConfigError

if TYPE_CHECKING:
    from mre_jax.editing.pipeline import EditPipeline

VARIABLE = "MRE_MODEL"
"""Of the environment: the model where none is named."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A model that edits.

    Attributes:
        model: model folder, weight file, gs://..., or org/name@REVISION on the hub ($MRE_MODEL by
            default).
        base: another model for what this one lacks: tokenizer, VAE, text encoder.
        lora: LoRA to merge into the model's weights, of the scale 1 or another; may be repeated.
        weights: moving average or not, of a model that has both (ema by default).
        dtype: precision of weights and arithmetic.
        attention: implementation of attention.
        vae_tiling: less memory at 1024 px and more.
        templates: SmartEdit's system prompt and templates, such as the official ones (the model's
            own by default).
        reply: whether SmartEdit's language model is given its reply or writes one by an edit's
            seed and id.
        split_llm: each device holds a part of SmartEdit's language model, where a copy is too large
            for one.
    """

    model: epath.PathLike = ""
    base: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "MODEL"})
    lora: tuple[str, ...] = dataclasses.field(default=(), metadata={"metavar": "FILE[:SCALE]"})
    weights: Literal["ema", "raw"] | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: str = "auto"
    vae_tiling: bool = False
    templates: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FILE"})
    reply: Literal["teacher_forced", "sampled"] = "teacher_forced"
    split_llm: bool = False

    @property
    def path(self) -> epath.PathLike:
        """Place of the model.

        Raises:
            ConfigError: if neither the spec nor the environment names one.
        """
        path = self.model or os.environ.get(VARIABLE)
        if not path:
            raise ConfigError(f"no model: give --model PATH, or set {VARIABLE}")
        return path

    def load(self) -> "EditPipeline":
        """The model as a pipeline, its compiled programs kept on disk from one process to the next.

        Raises:
            MreError: as `EditPipeline.from_pretrained`, or if the memory does not suffice.
        """
        path = self.path

        from mre_jax.editing.batching import MEMORY_REMEDIES
        from mre_jax.editing.pipeline import EditPipeline
        from mre_jax.io.devices import keep_programs
        from mre_jax.io.memory import too_much_is_an_error

        keep_programs()
        with too_much_is_an_error(MEMORY_REMEDIES):
            return EditPipeline.from_pretrained(
                path,
                base=self.base,
                lora=self.lora,
                weights=self.weights,
                dtype=self.dtype,
                attention=self.attention,
                vae_tiling=self.vae_tiling,
                templates=self.templates,
                reply=self.reply,
                split_llm=self.split_llm,
            )
