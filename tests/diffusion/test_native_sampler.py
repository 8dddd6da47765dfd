"""The checkpoint's sampler is taken, or its replacement is said, or it is refused."""

import re

import pytest

from mre_jax.diffusion.native_sampler import native_sampler
from mre_jax.diffusion.samplers import SAMPLERS
from mre_jax.diffusion.sampling import scheduler_classes
from mre_jax.errors import ConfigError


def test_diffusers_classes_map_to_our_names():
    assert native_sampler({"_class_name": "DDIMScheduler"}) == ("ddim", "")
    own = [native_sampler({"_class_name": name}) for name in scheduler_classes()]
    assert {name for name, _ in own} == set(SAMPLERS)
    assert {note for _, note in own} == {""}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"_class_name": "PNDMScheduler"}, "PNDMScheduler has no counterpart .* name one of"),
        ({"_class_name": "LMSDiscreteScheduler"}, "LMSDiscreteScheduler has no counterpart"),
        ({"_class_name": "LCMScheduler"}, "LCMScheduler .* distilled: name 4 to 8 steps"),
        ({"_class_name": "TCDScheduler"}, "TCDScheduler .* distilled"),
        ({}, "scheduler, which it does not name, has no counterpart"),
        ({"_class_name": None}, "scheduler, which it does not name"),
    ],
)
def test_a_replacement_is_said_in_one_line(config, said):
    name, note = native_sampler({"beta_schedule": "scaled_linear", **config})
    assert name == "euler_ancestral" and repr(name) in note
    assert re.search(said, note) and "\n" not in note


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "flow matching"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler"}, "flow matching"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "flow matching"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"},
            "flow matching",
        ),
        ({"_class_name": "EDMEulerScheduler"}, "EDM"),
        ({"_class_name": "CMStochasticIterativeScheduler"}, "consistency"),
        ({"_class_name": "PiflowScheduler", "shift": 3.0}, "without betas"),
    ],
)
def test_the_scheduler_of_another_kind_of_model_is_refused_by_name(config, kind):
    """Its pictures would be noise."""
    with pytest.raises(ConfigError, match=rf"{config['_class_name']} is .* another kind \({kind}"):
        native_sampler(config)


def test_every_scheduler_of_diffusers_is_known_or_said():
    diffusers = pytest.importorskip("diffusers")
    for name in dir(diffusers):
        if name.endswith("Scheduler") and hasattr(getattr(diffusers, name), "from_config"):
            try:
                config = {"_class_name": name, "beta_schedule": "linear"}
                sampler, note = native_sampler(config)
            except ConfigError:
                continue
            assert bool(note) == (name not in scheduler_classes())
            assert sampler in SAMPLERS
