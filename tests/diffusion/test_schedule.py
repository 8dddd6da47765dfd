"""The noise schedule against diffusers' own, and the errors of a bad scheduler_config.json."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError

# As the public InstructPix2Pix folder has it, stray keys included.
INSTRUCT_PIX2PIX = {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "_diffusers_version": "0.12.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}

BETAS = [
    {"beta_schedule": "linear"},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"beta_schedule": "scaled_linear", "num_train_timesteps": 37},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.1, 0.2, 0.05, 0.3], "num_train_timesteps": 4},
]


@pytest.mark.parametrize("config", BETAS, ids=lambda config: str(config)[:60])
def test_alphas_cumprod_is_that_of_diffusers(config):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler.from_config(config).alphas_cumprod.numpy()
    ours = NoiseSchedule.from_dict(config).alphas_cumprod
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_noising_and_target_are_those_of_diffusers(name, prediction_type):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    config = INSTRUCT_PIX2PIX | {"prediction_type": prediction_type}
    theirs = getattr(diffusers, name).from_config(config)
    schedule = NoiseSchedule.from_dict(config)
    latents, noise = np.random.default_rng(0).standard_normal((2, 5, 4, 6, 4), np.float32)
    timesteps = np.array([0, 1, 500, 998, 999])
    args = [torch.from_numpy(x) for x in (latents, noise, timesteps)]
    ours = [jnp.asarray(x) for x in (latents, noise, timesteps.astype(np.int32))]

    np.testing.assert_allclose(schedule.add_noise(*ours), theirs.add_noise(*args), atol=1e-6)
    target = args[1] if prediction_type == "epsilon" else theirs.get_velocity(*args)
    np.testing.assert_allclose(schedule.target(*ours), target, atol=1e-6)


def test_clean_latents_are_the_target_of_sample_prediction():
    schedule = NoiseSchedule(prediction_type="sample")
    latents, noise = jnp.ones((1, 2, 2, 4)), jnp.zeros((1, 2, 2, 4))
    assert (schedule.target(latents, noise, jnp.array([3])) == latents).all()


def test_noising_keeps_bfloat16_latents_in_bfloat16():
    latents = jnp.ones((2, 2, 2, 4), jnp.bfloat16)
    noisy = NoiseSchedule().add_noise(latents, latents, jnp.array([1, 2]))
    assert noisy.dtype == jnp.bfloat16


def test_snr_is_signal_over_noise():
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    compute_snr = pytest.importorskip("diffusers.training_utils").compute_snr
    timesteps = np.array([0, 10, 500, 999])
    theirs = compute_snr(
        diffusers.DDPMScheduler.from_config(INSTRUCT_PIX2PIX), torch.from_numpy(timesteps)
    )
    ours = NoiseSchedule.from_dict(INSTRUCT_PIX2PIX).snr(jnp.asarray(timesteps, jnp.int32))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_preset_is_the_public_configuration():
    public = dataclasses.replace(NoiseSchedule.from_dict(INSTRUCT_PIX2PIX), sampler_options=())
    assert public == NoiseSchedule.stable_diffusion()
    assert public.timestep_spacing is None


@pytest.mark.parametrize("config", [INSTRUCT_PIX2PIX, {}, BETAS[-1]], ids=["ip2p", "empty", "own"])
def test_a_saved_schedule_reads_back_the_same(config):
    schedule = NoiseSchedule.from_dict(config)
    assert NoiseSchedule.from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


def test_defaults_recorded_by_another_class_do_not_count_as_given():
    config = {"timestep_spacing": "linspace", "_use_default_values": ["timestep_spacing"]}
    assert NoiseSchedule.from_dict(config).timestep_spacing is None


@pytest.mark.parametrize(
    "config",
    [
        {"num_train_timesteps": "1000"},
        {"num_train_timesteps": 0},
        {"num_train_timesteps": True},
        {"steps_offset": -1},
        {"beta_start": 0.0},
        {"beta_end": 1.5},
        {"beta_schedule": "sigmoid"},
        {"prediction_type": "flow_prediction"},
        {"timestep_spacing": "karras"},
        {"clip_sample": "yes"},
        {"clip_sample_range": 0.0},
        {"trained_betas": 0.1},
        {"trained_betas": [0.1, 0.2]},
        {"trained_betas": [0.1, 1.0], "num_train_timesteps": 2},
        {"trained_betas": [0.1, float("nan")], "num_train_timesteps": 2},
    ],
    ids=str,
)
def test_a_bad_value_is_refused_by_name(config):
    with pytest.raises(ConfigError, match=next(iter(config))):
        NoiseSchedule.from_dict(config)
