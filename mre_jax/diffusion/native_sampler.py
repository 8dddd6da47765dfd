"""Which sampler edits with a checkpoint that comes with a scheduler of diffusers."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from mre_jax.diffusion.samplers import SAMPLERS
from mre_jax.diffusion.sampling import scheduler_classes
from mre_jax.errors import ConfigError

SUBSTITUTE = "euler_ancestral"
"""InstructPix2Pix's, for a scheduler without a counterpart here, as Stable Diffusion's PNDM."""


class NativeSampler(NamedTuple):
    """A sampler for a checkpoint.

    Attributes:
        name: in `SAMPLERS`.
        note: what to tell the user if it is not the checkpoint's own; "" if it is.
    """

    name: str
    note: str


def native_sampler(config: Mapping[str, Any]) -> NativeSampler:
    """The sampler for a `scheduler_config.json`.

    Raises:
        ConfigError: for the scheduler of another kind of model, such as flow matching, to which no
            sampler here would be right.
    """
    class_name = str(config.get("_class_name") or "")
    known = scheduler_classes()
    _check_kind(class_name, config, class_name in known)
    if class_name in known:
        return NativeSampler(known[class_name], "")
    replaced = f"the checkpoint's {class_name or 'scheduler, which it does not name,'}"
    if class_name in _DISTILLED:
        advice = "it was distilled: name 4 to 8 steps, a guidance scale of 1 to 2, and a scheduler"
    else:
        advice = f"name one of {', '.join(SAMPLERS)} to choose"
    note = f"{replaced} has no counterpart here, {SUBSTITUTE!r} samples in its place; {advice}"
    return NativeSampler(SUBSTITUTE, note)


def _check_kind(class_name: str, config: Mapping[str, Any], is_known: bool) -> None:
    kind = next((kind for part, kind in _OTHER_KINDS.items() if part in class_name), None)
    if config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        kind = _FLOW
    elif class_name and not is_known and not _BETAS & config.keys():
        kind = kind or "without betas"
    if kind:
        raise ConfigError(
            f"the checkpoint's {class_name or 'scheduler'} is of a model of another kind ({kind}), "
            "which cannot be sampled here; take a checkpoint of noise, sample or v prediction"
        )


_FLOW = "flow matching"
# By what is in the name of diffusers' class.
_OTHER_KINDS = {
    "FlowMatch": _FLOW,
    "EDM": "EDM's preconditioning",
    "CMStochasticIterative": "consistency",
    "KarrasVe": "variance exploding",
    "ScoreSdeVe": "variance exploding",
}
_BETAS = {"beta_start", "beta_end", "beta_schedule", "trained_betas"}
_DISTILLED = ("LCMScheduler", "TCDScheduler")
