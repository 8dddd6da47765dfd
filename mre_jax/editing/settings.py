"""How a batch of edits is sampled: what all its edits share."""

import dataclasses

from mre_jax.editing.request import as_python
from mre_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class SamplingSettings:
    """Sampling choices that decide which program is compiled.

    Attributes:
        num_inference_steps: denoising steps; the paper takes 30. Each is one evaluation of the
            UNet, n steps of "heun" are 2n - 1.
        scheduler: a name in `mre_jax.diffusion.samplers.SAMPLERS`; None takes the checkpoint's
            own, or says what it takes in its place.
        guidance_rule: "instruct_pix2pix" (also MagicBrush, HIVE, HQ-Edit) or "instruct_diffusion".
        prompt_suffix: appended to every prompt; HIVE asks for quality in this way.
        eta: noise that "ddim" adds, 0 (none) to 1.
    """

    num_inference_steps: int = 30
    scheduler: str | None = None
    guidance_rule: str = "instruct_pix2pix"
    prompt_suffix: str = ""
    eta: float = 0.0

    def __post_init__(self) -> None:
        steps = as_python(self.num_inference_steps)
        object.__setattr__(self, "num_inference_steps", steps)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"num_inference_steps {steps!r} is not a positive integer")
