"""Every sampler step for step against diffusers' scheduler of the same configuration."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mre_jax.diffusion.noise import initial_latents, item_keys, step_noise
from mre_jax.diffusion.samplers import (
    SAMPLERS,
    SCHEDULER_CLASSES,
    plan_sampling,
    sample,
    scale_input,
    start,
    step,
)
from mre_jax.diffusion.schedule import NoiseSchedule
from mre_jax.errors import ConfigError
from tests.diffusion.test_schedule import INSTRUCT_PIX2PIX
from tests.parity import relative_error

# diffusers turns tensors into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SPACINGS = ("linspace", "leading", "trailing")
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BETAS = ({}, STABLE_DIFFUSION, {"beta_schedule": "squaredcos_cap_v2"})
SHAPE = (2, 4, 3, 4)
LATENTS = np.random.default_rng(0).standard_normal(SHAPE, np.float32)

jitted_start, jitted_step = jax.jit(start), jax.jit(step)


def row_of(plan, number):
    return jax.tree.map(lambda column: column[number], plan.steps)


def noise_of(number):
    return np.random.default_rng(number).standard_normal(SHAPE, np.float32)


def network(latents, timestep, xp=np):
    """A cheap stand-in for the UNet: bounded, and dependent on both of its arguments."""
    return 0.9 * xp.tanh(latents) + 0.3 * xp.cos(latents + float(timestep) / 300)


def their_scheduler(name, config, count):
    diffusers = pytest.importorskip("diffusers")
    class_name = next(cls for cls, ours in SCHEDULER_CLASSES.items() if ours == name)
    scheduler = getattr(diffusers, class_name).from_config(config)
    scheduler.set_timesteps(count)
    return scheduler


class Float64Torch:
    """torch, but what asks for float32 gets float64."""

    def __getattr__(self, name):
        torch = pytest.importorskip("torch")
        return torch.float64 if name == "float32" else getattr(torch, name)


def their_trajectory(name, config, count, eta, monkeypatch):
    """diffusers' input to the network and latents after the step, for every step.

    The table of noise levels is diffusers' own, in float32. The steps run in float64: in float32
    the first Euler step of a cosine schedule (from 20000 to 3) is itself off by 6e-4.
    """
    torch = pytest.importorskip("torch")
    scheduler = their_scheduler(name, config, count)
    module = type(scheduler).__module__
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas.double()
    latents = torch.from_numpy(LATENTS).double() * scheduler.init_noise_sigma
    options = {"eta": eta} if name == "ddim" else {}
    rows = []
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.torch", Float64Torch())
        for number, timestep in enumerate(scheduler.timesteps):
            noise = torch.from_numpy(noise_of(number)).double()
            patch.setattr(f"{module}.randn_tensor", lambda *a, noise=noise, **k: noise)
            scaled = scheduler.scale_model_input(latents, timestep)
            output = network(scaled, timestep, torch)
            latents = scheduler.step(output, timestep, latents, **options).prev_sample
            rows.append((float(timestep), scaled, latents))
    return float(scheduler.init_noise_sigma), rows


def check_trajectory(name, config, count, monkeypatch, eta=0.0):
    plan = plan_sampling(name, NoiseSchedule.from_dict(config), count, eta=eta)
    sigma, rows = their_trajectory(name, config, count, eta, monkeypatch)
    assert plan.init_noise_sigma == pytest.approx(sigma, rel=1e-6)
    np.testing.assert_allclose(plan.steps.timestep, [row[0] for row in rows], rtol=1e-7)
    carry = jitted_start(plan, jnp.asarray(LATENTS))
    for number, (timestep, their_scaled, their_latents) in enumerate(rows):
        row = row_of(plan, number)
        scaled = scale_input(row, carry.latents)
        assert relative_error(scaled, their_scaled) < 1e-5, f"input of step {number}"
        output = jnp.asarray(network(np.asarray(scaled), timestep))
        noise = jnp.asarray(noise_of(number)) if plan.stochastic else None
        carry = jitted_step(row, carry, output, noise)
        assert relative_error(carry.latents, their_latents) < 1e-5, f"latents after step {number}"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_configuration_samples_as_in_diffusers(name, prediction_type, spacing, monkeypatch):
    if (name, prediction_type) == ("euler_ancestral", "sample"):
        pytest.skip("diffusers does not implement it")
    for betas, offset in itertools.product(BETAS, (0, 1)):
        config = betas | {
            "prediction_type": prediction_type,
            "timestep_spacing": spacing,
            "steps_offset": offset,
            "clip_sample": False,
        }
        check_trajectory(name, config, 5, monkeypatch)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [1, 2, 3, 20, 30, 50])
def test_the_public_configuration_samples_as_in_diffusers(name, count, monkeypatch):
    check_trajectory(name, INSTRUCT_PIX2PIX, count, monkeypatch)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_missing_key_takes_the_default_of_the_samplers_class(name, spacing, monkeypatch):
    check_trajectory(name, {}, 4, monkeypatch)
    check_trajectory(name, {"timestep_spacing": spacing}, 30, monkeypatch)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip_sample_range", [0.5, 1.0])
def test_ddim_clips_and_adds_noise_as_in_diffusers(
    eta, prediction_type, clip_sample_range, monkeypatch
):
    config = INSTRUCT_PIX2PIX | {
        "prediction_type": prediction_type,
        "clip_sample": True,
        "clip_sample_range": clip_sample_range,
        "set_alpha_to_one": True,
    }
    check_trajectory("ddim", config, 10, monkeypatch, eta=eta)


def test_sample_prediction_of_euler_ancestral_agrees_with_epsilon():
    """The same x0 said in another way must give the same next latents."""
    epsilon, clean = (
        plan_sampling("euler_ancestral", NoiseSchedule(prediction_type=kind), 5)
        for kind in ("epsilon", "sample")
    )
    for number in range(5):
        by_noise, by_clean = row_of(epsilon, number), row_of(clean, number)
        carry = jitted_start(epsilon, jnp.asarray(LATENTS))
        output, noise = jnp.asarray(network(LATENTS, number)), jnp.asarray(noise_of(number))
        first = jitted_step(by_noise, carry, output, noise)
        # What a step hands on as x0_prev is its x0.
        second = jitted_step(by_clean, carry, first.x0_prev, noise)
        assert relative_error(second.latents, first.latents) < 1e-5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [61, 103])
def test_trailing_never_takes_a_step_too_many(name, count, monkeypatch):
    """diffusers does at these counts, at timestep -1; the steps before it are equal."""
    config = STABLE_DIFFUSION | {"timestep_spacing": "trailing"}
    assert len(their_scheduler(name, config, count).timesteps) == count + 1
    plan = plan_sampling(name, NoiseSchedule.from_dict(config), count)
    theirs = their_scheduler(name, config, count).timesteps[:count]
    np.testing.assert_array_equal(plan.steps.timestep, theirs)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_for_every_training_timestep_is_finite_or_refused(name):
    for spacing, offset, count in itertools.product(SPACINGS, (0, 1), (998, 999, 1000)):
        schedule = NoiseSchedule(timestep_spacing=spacing, steps_offset=offset)
        try:
            plan = plan_sampling(name, schedule, count)
        except ConfigError as error:
            assert "take fewer steps" in str(error)
            continue
        columns = plan.steps._replace(clip=np.zeros(1))
        assert all(np.isfinite(column).all() for column in columns)


# The public entry point as a pipeline uses it.


LATENT_SHAPE = (4, 4, 4)


def denoise(latents, timestep):
    return jnp.tanh(latents + jnp.mean(latents, axis=(1, 2, 3), keepdims=True)) * jnp.cos(timestep)


@jax.jit
def run(plan, keys):
    return sample(denoise, initial_latents(keys, LATENT_SHAPE), plan, keys)[0]


@jax.jit
def run_by_hand(plan, keys):
    """The same without the scan."""
    carry = start(plan, initial_latents(keys, LATENT_SHAPE))
    for number in range(len(plan.steps.number)):
        row = row_of(plan, number)
        noise = step_noise(keys, number, LATENT_SHAPE) if plan.stochastic else None
        output = denoise(scale_input(row, carry.latents), row.timestep)
        carry = step(row, carry, output, noise)
    return carry.latents


ALL = [(name, 0.0) for name in SAMPLERS] + [("ddim", 1.0)]


@pytest.mark.parametrize(("name", "eta"), ALL)
def test_sampling_does_not_depend_on_devices_or_batch(name, eta):
    plan = plan_sampling(name, NoiseSchedule.stable_diffusion(), 3, eta=eta)
    keys = item_keys(range(8), [f"{i}.png" for i in range(8)])
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharded = run(plan, jax.device_put(keys, NamedSharding(mesh, PartitionSpec("data"))))
    assert len(sharded.sharding.device_set) == 8
    four = run(plan, keys[:4])
    assert relative_error(four, np.asarray(sharded)[:4]) < 1e-5
    assert relative_error(run(plan, keys[2:3]), four[2:3]) < 1e-5
    assert relative_error(run_by_hand(plan, keys[:4]), four) < 1e-5


def test_only_stochastic_samplers_need_keys():
    schedule = NoiseSchedule.stable_diffusion()
    latents = jnp.asarray(LATENTS)
    for name, eta in ALL:
        plan = plan_sampling(name, schedule, 4, eta=eta)
        assert plan.stochastic == ((name, eta) in {("euler_ancestral", 0.0), ("ddim", 1.0)})
    with pytest.raises(ValueError, match="pass keys"):
        sample(denoise, latents, plan)
    sample(denoise, latents, plan_sampling("ddim", schedule, 2))


@pytest.mark.parametrize(("name", "eta"), ALL)
def test_the_step_at_which_an_example_stops_being_finite_is_told(name, eta):
    plan = plan_sampling(name, NoiseSchedule.stable_diffusion(), 4, eta=eta)
    second = plan.steps.timestep[1]

    def denoise(latents, timestep):
        broken = jnp.where(timestep == second, jnp.inf, 0.0)
        return jnp.zeros_like(latents).at[1].set(broken)

    _, finite = sample(denoise, jnp.ones((2, *LATENT_SHAPE)), plan, item_keys([0, 1], ["a", "b"]))
    assert finite.tolist() == [[True] * 4, [True, False, False, False]]


@pytest.mark.parametrize(
    ("scheduler", "near"),
    [
        ("euler_a", "euler"),
        ("dpm++", "dpmsolver++"),
        ("DDIM", "ddim"),
        ("EulerAncestralDiscreteScheduler", "euler_ancestral"),
    ],
)
def test_an_unknown_scheduler_names_the_nearest(scheduler, near):
    with pytest.raises(ConfigError, match=re.escape(f"mean {near!r}")):
        plan_sampling(scheduler, NoiseSchedule(), 5)


@pytest.mark.parametrize("count", [0, -3, 1001])
def test_a_number_of_steps_out_of_range_is_refused(count):
    with pytest.raises(ConfigError, match=rf"num_inference_steps={count} must be in 1 \.\. 1000"):
        plan_sampling("euler", NoiseSchedule(), count)


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_an_eta_out_of_range_is_refused(eta):
    with pytest.raises(ConfigError, match="eta="):
        plan_sampling("ddim", NoiseSchedule(), 5, eta=eta)


def test_an_eta_for_another_sampler_is_refused():
    with pytest.raises(ConfigError, match="'ddim' alone"):
        plan_sampling("euler", NoiseSchedule(), 5, eta=1.0)


UNSUPPORTED = [
    ("use_karras_sigmas", True, {"euler", "dpmsolver++"}),
    ("use_exponential_sigmas", True, {"euler", "dpmsolver++"}),
    ("use_beta_sigmas", True, {"euler", "dpmsolver++"}),
    ("final_sigmas_type", "sigma_min", {"euler", "dpmsolver++"}),
    ("interpolation_type", "log_linear", {"euler"}),
    ("timestep_type", "continuous", {"euler"}),
    ("rescale_betas_zero_snr", True, set(SAMPLERS)),
    ("thresholding", True, {"ddim", "dpmsolver++"}),
    ("solver_order", 3, {"dpmsolver++"}),
    ("algorithm_type", "sde-dpmsolver++", {"dpmsolver++"}),
    ("solver_type", "heun", {"dpmsolver++"}),
    ("use_lu_lambdas", True, {"dpmsolver++"}),
    ("use_flow_sigmas", True, {"dpmsolver++"}),
    ("use_dynamic_shifting", True, {"dpmsolver++"}),
    ("lambda_min_clipped", -5.1, {"dpmsolver++"}),
    ("variance_type", "learned_range", {"dpmsolver++"}),
]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("key", "value", "matters_to"), UNSUPPORTED)
def test_an_unsupported_option_is_refused_only_where_it_matters(name, key, value, matters_to):
    schedule = NoiseSchedule.from_dict({key: value})
    if name not in matters_to:
        plan_sampling(name, schedule, 5)
        return
    with pytest.raises(ConfigError, match=re.escape(f"{key}={value!r}") + ".*set it to"):
        plan_sampling(name, schedule, 5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_defaults_of_every_diffusers_class_are_accepted(name):
    diffusers = pytest.importorskip("diffusers")
    for class_name in (*SCHEDULER_CLASSES, "DDPMScheduler", "PNDMScheduler"):
        config = dict(getattr(diffusers, class_name)().config)
        plan_sampling(name, NoiseSchedule.from_dict(config), 5)
