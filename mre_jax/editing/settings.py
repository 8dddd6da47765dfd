"""How a batch of edits is sampled: what all its edits share."""

import dataclasses

from mre_jax.editing.request import as_python
from mre_jax.errors import ConfigError

HIVE_PROMPT_SUFFIX = ", image quality is five out of five"
"""What HIVE (Zhang et al. 2024) appends to an instruction to ask for its highest reward."""


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """Sampling choices that decide which program is compiled.

    Attributes:
        num_inference_steps: denoising steps; n steps of heun are 2n - 1 evaluations of the UNet.
        scheduler: euler_ancestral, euler, ddim, dpmsolver++, heun or unipc (the checkpoint's own;
            one that is not among these is replaced by the first, with a warning).
        guidance_rule: instruct_pix2pix (also of MagicBrush, HIVE and HQ-Edit) or
            instruct_diffusion.
        prompt_suffix: text appended to every prompt; on the command line 'hive' stands for HIVE's.
        eta: noise that "ddim" adds, 0 (none) to 1.
    """

    num_inference_steps: int = dataclasses.field(default=30, metadata={"flag": "--steps"})
    scheduler: str | None = None
    guidance_rule: str = "instruct_pix2pix"
    prompt_suffix: str = dataclasses.field(
        default="", metadata={"parse": lambda text: HIVE_PROMPT_SUFFIX if text == "hive" else text}
    )
    eta: float = dataclasses.field(default=0.0, metadata={"option": False})

    def __post_init__(self) -> None:
        steps = as_python(self.num_inference_steps)
        object.__setattr__(self, "num_inference_steps", steps)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"num_inference_steps {steps!r} is not a positive integer")
