"""Every sampler step for step against diffusers' scheduler of the same configuration."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mre_jax.diffusion.noise import initial_latents, item_keys, step_noise
from mre_jax.diffusion.samplers import SAMPLERS
from mre_jax.diffusion.sampling import (
    load_sampler,
    plan_sampling,
    sample,
    scale_input,
    scheduler_classes,
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
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
BETAS = ({}, STABLE_DIFFUSION, COSINE)
SHAPE = (2, 4, 3, 4)
LATENTS = np.random.default_rng(0).standard_normal(SHAPE, np.float32)

jitted_start, jitted_step = jax.jit(start), jax.jit(step)


def row_of(plan, number):
    return jax.tree.map(lambda column: column[number], plan.rows)


def noise_of(number):
    return np.random.default_rng(number).standard_normal(SHAPE, np.float32)


def network(latents, timestep, xp=np):
    """A cheap stand-in for the UNet: bounded, and dependent on both of its arguments."""
    return 0.9 * xp.tanh(latents) + 0.3 * xp.cos(latents + float(timestep) / 300)


def their_scheduler(name, config, count):
    diffusers = pytest.importorskip("diffusers")
    scheduler = getattr(diffusers, load_sampler(name).scheduler_class).from_config(config)
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
            draw = f"{module}.randn_tensor"
            patch.setattr(draw, lambda *a, noise=noise, **k: noise, raising=False)
            scaled = scheduler.scale_model_input(latents, timestep)
            output = network(scaled, timestep, torch)
            latents = scheduler.step(output, timestep, latents, **options).prev_sample
            rows.append((float(timestep), scaled, latents))
    return float(scheduler.init_noise_sigma), rows


def check_trajectory(name, config, count, monkeypatch, eta=0.0, closed=True):
    """With `closed` each side's network sees its own latents, else both see those of diffusers."""
    plan = plan_sampling(name, NoiseSchedule.from_dict(config), count, eta=eta)
    sigma, rows = their_trajectory(name, config, count, eta, monkeypatch)
    assert plan.init_noise_sigma == pytest.approx(sigma, rel=1e-6)
    np.testing.assert_allclose(plan.rows.timestep, [row[0] for row in rows], rtol=1e-7)
    carry = jitted_start(plan, jnp.asarray(LATENTS))
    for number, (timestep, their_scaled, their_latents) in enumerate(rows):
        row = row_of(plan, number)
        scaled = scale_input(row, carry.latents)
        assert relative_error(scaled, their_scaled) < 1e-5, f"input of row {number}"
        seen = np.asarray(scaled) if closed else np.asarray(their_scaled)
        output = jnp.asarray(network(seen, timestep), jnp.float32)
        noise = jnp.asarray(noise_of(number)) if plan.stochastic else None
        carry = jitted_step(row, carry, output, noise)
        assert relative_error(carry.latents, their_latents) < 1e-5, f"latents after row {number}"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_configuration_samples_as_in_diffusers(name, prediction_type, spacing, monkeypatch):
    if (name, prediction_type) == ("euler_ancestral", "sample"):
        pytest.skip("diffusers does not implement it")
    for betas, offset in itertools.product(BETAS, (0, 1)):
        config = betas | {
            "_class_name": load_sampler(name).scheduler_class,
            "prediction_type": prediction_type,
            "timestep_spacing": spacing,
            "steps_offset": offset,
            "clip_sample": False,
        }
        # From noise level 20000 to 3 Heun multiplies what float32 does to the network's input.
        closed = name != "heun" or betas != COSINE
        check_trajectory(name, config, 5, monkeypatch, closed=closed)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [1, 2, 3, 20, 30, 50])
def test_the_public_configuration_samples_as_in_diffusers(name, count, monkeypatch):
    check_trajectory(name, INSTRUCT_PIX2PIX, count, monkeypatch)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_missing_key_takes_the_default_of_the_samplers_class(name, spacing, monkeypatch):
    config = {"_class_name": load_sampler(name).scheduler_class}
    check_trajectory(name, config, 4, monkeypatch)
    check_trajectory(name, {**config, "timestep_spacing": spacing}, 30, monkeypatch)


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


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("clip_sample_range", [0.5, 2.0])
def test_heun_clips_as_in_diffusers(prediction_type, clip_sample_range, monkeypatch):
    config = INSTRUCT_PIX2PIX | {
        "prediction_type": prediction_type,
        "clip_sample": True,
        "clip_sample_range": clip_sample_range,
    }
    check_trajectory("heun", config, 10, monkeypatch, closed=False)


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("solver_type", ["bh1", "bh2", "midpoint"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_unipc_of_every_order_samples_as_in_diffusers(
    order, solver_type, prediction_type, monkeypatch
):
    # As the files of Stable Diffusion 1.5 with this scheduler have it.
    config = STABLE_DIFFUSION | {
        "_class_name": "UniPCMultistepScheduler",
        "solver_order": order,
        "solver_type": solver_type,
        "prediction_type": prediction_type,
        "predict_x0": True,
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    lowest = config | {"final_sigmas_type": "sigma_min"}
    if solver_type == "bh1":  # is not finite in diffusers at noise level 0
        config = lowest
    for count in (1, 2, 4, 25):
        check_trajectory("unipc", config, count, monkeypatch)
    check_trajectory("unipc", config | {"disable_corrector": [0, 2]}, 6, monkeypatch)
    check_trajectory("unipc", lowest | {"lower_order_final": False}, 6, monkeypatch)


def test_unipc_refuses_what_is_not_finite_in_diffusers(monkeypatch):
    config = STABLE_DIFFUSION | {"lower_order_final": False}
    _, rows = their_trajectory("unipc", config, 4, 0.0, monkeypatch)
    assert not rows[-1][2].isfinite().all()
    with pytest.raises(ConfigError, match=r"lower_order_final=False .* set it to true"):
        plan_sampling("unipc", NoiseSchedule.from_dict(config), 4)


def test_an_option_of_another_type_is_refused():
    with pytest.raises(ConfigError, match="lower_order_final='yes' must be of type bool"):
        plan_sampling("unipc", NoiseSchedule.from_dict({"lower_order_final": "yes"}), 4)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_plan_says_how_often_the_unet_runs(name, count, monkeypatch):
    runs = []

    def counted(latents, timestep):
        jax.debug.callback(lambda: runs.append(1))
        return latents

    plan = plan_sampling(name, NoiseSchedule.stable_diffusion(), count)
    latents, finite = sample(counted, jnp.asarray(LATENTS), plan, item_keys([0, 0], ["a", "b"]))
    jax.block_until_ready(latents)
    jax.effects_barrier()
    assert len(runs) == plan.num_evaluations == (2 * count - 1 if name == "heun" else count)
    assert finite.shape == (2, count)


def test_a_higher_order_comes_nearer_to_the_exact_solution():
    """With the score of normal data the ODE has a solution; Euler's error shows what order is."""
    schedule = NoiseSchedule.stable_diffusion()
    sigma = np.sqrt(1 - schedule.alphas_cumprod)

    def exact(latents, timestep):  # eps of data of standard deviation 0.5
        level = jnp.interp(timestep, np.arange(1000.0), sigma)
        return latents * level / (level**2 + 0.25 * (1 - level**2))

    latents = jnp.asarray(LATENTS)
    errors = {}
    for name in ("euler", "heun", "ddim", "dpmsolver++", "unipc"):
        few, many = (
            sample(exact, latents, plan_sampling(name, schedule, count))[0] for count in (20, 500)
        )
        errors[name] = relative_error(few, many)
    assert errors["heun"] < errors["euler"] / 3
    assert errors["unipc"] < errors["dpmsolver++"] < errors["ddim"]


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
        # What a step remembers is its x0.
        second = jitted_step(by_clean, carry, first.memory[0], noise)
        assert relative_error(second.latents, first.latents) < 1e-5


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [61, 103])
def test_trailing_never_takes_a_step_too_many(name, count, monkeypatch):
    """diffusers does at these counts, at timestep -1; the steps before it are equal."""
    config = STABLE_DIFFUSION | {"timestep_spacing": "trailing"}
    plan = plan_sampling(name, NoiseSchedule.from_dict(config), count)
    theirs = their_scheduler(name, config, count).timesteps
    assert len(theirs) == plan.num_evaluations + plan.evaluations
    theirs = theirs[: plan.num_evaluations]
    np.testing.assert_array_equal(plan.rows.timestep, theirs)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_for_every_training_timestep_is_finite_or_refused(name):
    for spacing, offset, count in itertools.product(SPACINGS, (0, 1), (998, 999, 1000)):
        schedule = NoiseSchedule(timestep_spacing=spacing, steps_offset=offset)
        try:
            plan = plan_sampling(name, schedule, count)
        except ConfigError as error:
            assert "take fewer steps" in str(error)
            continue
        columns = plan.rows._replace(clip=np.zeros(1, np.float32))
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
    for number in range(plan.num_evaluations):
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
    second = plan.rows.timestep[2 * plan.evaluations - 1]

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


KARRAS = {"euler", "dpmsolver++", "heun", "unipc"}
UNSUPPORTED = [
    ("use_karras_sigmas", True, KARRAS),
    ("use_exponential_sigmas", True, KARRAS),
    ("use_beta_sigmas", True, KARRAS),
    ("final_sigmas_type", "sigma_min", {"euler", "dpmsolver++"}),
    ("interpolation_type", "log_linear", {"euler"}),
    ("timestep_type", "continuous", {"euler"}),
    ("rescale_betas_zero_snr", True, set(SAMPLERS) - {"heun"}),
    ("thresholding", True, {"ddim", "dpmsolver++", "unipc"}),
    ("solver_order", 3, {"dpmsolver++"}),
    ("solver_order", 4, {"dpmsolver++", "unipc"}),
    ("predict_x0", False, {"unipc"}),
    ("algorithm_type", "sde-dpmsolver++", {"dpmsolver++"}),
    ("solver_type", "heun", {"dpmsolver++"}),
    ("use_lu_lambdas", True, {"dpmsolver++"}),
    ("use_flow_sigmas", True, {"dpmsolver++", "unipc"}),
    ("use_dynamic_shifting", True, {"dpmsolver++", "unipc"}),
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
    for class_name in (*scheduler_classes(), "DDPMScheduler", "PNDMScheduler"):
        config = dict(getattr(diffusers, class_name)().config)
        plan_sampling(name, NoiseSchedule.from_dict(config), 5)
