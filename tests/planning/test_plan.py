"""A plan from end to end, on the toy world's editor, which is traced in a second."""

import dataclasses
import json
import math

import pytest

from mre_jax import cli
from mre_jax.errors import ConfigError
from mre_jax.planning.calibration import fitted
from mre_jax.planning.hardware import slice_named
from mre_jax.planning.memory import layout_on, memory_of
from mre_jax.planning.plan import plan
from mre_jax.planning.prices import egress_warning, load_prices
from mre_jax.planning.spec import PlanSpec
from mre_jax.planning.storage import saves_of
from mre_jax.planning.timing import operations
from mre_jax.planning.work import sizes_of, work_of
from mre_jax.toyworld import EDITOR
from mre_jax.training.config import load_config
from tests.data.prepared import prepare_toy, write_toy

SPEC = PlanSpec(topology=("v5e:2x2",), examples=1000)


@pytest.fixture(autouse=True)
def at_home(tmp_path, monkeypatch):
    """Nobody's own programs count."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: toy\nsteps: 1000\nmodel: {{init_from: {EDITOR}, in_channels: 48}}\n"
        "data: {paths: [nowhere], batch_size: 64, resolution: 16}\n"
    )
    return path


def with_(config, **sections):
    changed = {
        name: dataclasses.replace(getattr(config, name), **values)
        for name, values in sections.items()
    }
    return dataclasses.replace(config, **changed)


def traced(config):
    sizes = sizes_of(config.model)
    return sizes, work_of(config.model, sizes, config.data.resolution)


# ---- memory


def test_the_state_is_four_numbers_a_parameter_split_over_the_chips(config):
    config = load_config(config)
    sizes, work = traced(config)
    found = memory_of(config, work, sizes, slice_named("v5e:2x2"), "latents", fitted())
    state = (found.parameters + found.moments + found.average) * 2**30
    # Vectors are copied, and so are matrices that nothing divides.
    assert 16 * work.parameters / 4 < state < 1.3 * 16 * work.parameters / 4
    assert found.moments == pytest.approx(2 * found.parameters, rel=1e-3)
    whole = with_(config, mesh={"shard_optimizer": False}, model={"ema_decay": None})
    found = memory_of(whole, work, sizes, slice_named("v5e:2x2"), "latents", fitted())
    assert found.parameters * 2**30 == 4 * work.parameters
    assert found.average == 0


def test_activations_grow_with_the_batch_and_shrink_with_remat_and_accumulation(config):
    config = load_config(config)
    sizes, work = traced(config)
    where, fit = slice_named("v5e:2x2"), fitted()

    def activations(config, work=work):
        return memory_of(config, work, sizes, where, "latents", fit).activations

    base = activations(config)
    assert activations(with_(config, data={"batch_size": 128})) == pytest.approx(2 * base)
    assert activations(with_(config, optimizer={"accumulation": 4})) == pytest.approx(base / 4)
    again = with_(config, model={"remat": True})
    assert activations(again, traced(again)[1]) < 0.8 * base
    longer = operations(again, traced(again)[1], "latents") / operations(config, work, "latents")
    assert 1.2 < longer < 4 / 3


def test_the_largest_batch_fits_and_one_more_does_not(config):
    config = load_config(config, ["data.batch_size=4"])
    sizes, work = traced(config)
    where, fit = slice_named("v5e:2x2"), fitted()
    most = memory_of(config, work, sizes, where, "latents", fit).most_examples

    def fits(examples):
        larger = with_(config, data={"batch_size": 4 * examples})
        return memory_of(larger, work, sizes, where, "latents", fit).fits

    assert fits(most) and not fits(most + 1)


def test_pictures_take_the_encoders_and_their_arithmetic(config):
    config = load_config(config)
    sizes, work = traced(config)
    where, fit = slice_named("v5e:2x2"), fitted()
    found = {
        inputs: memory_of(config, work, sizes, where, inputs, fit)
        for inputs in ("texts", "latents", "pictures")
    }
    assert 0 == found["texts"].frozen < found["latents"].frozen < found["pictures"].frozen
    counts = [operations(config, work, inputs) for inputs in found]
    assert counts == sorted(counts) and len(set(counts)) == 3


def test_fsdp_splits_the_copy_that_computes(config):
    config = load_config(config)
    sizes, work = traced(config)
    where, fit = slice_named("v5e:2x2"), fitted()
    split = with_(config, mesh={"fsdp": 4})
    one, other = (memory_of(c, work, sizes, where, "latents", fit) for c in (config, split))
    assert one.weights / 4 < other.weights < one.weights / 2
    assert other.parameters == one.parameters
    with pytest.raises(ConfigError, match=r"mesh.fsdp=3 does not make the 4 chips of v5e:2x2"):
        layout_on(where, dataclasses.replace(config.mesh, fsdp=3))


# ---- the plan


def test_hours_and_money_follow_from_a_step(config):
    found = plan(load_config(config), SPEC)
    (one,) = found.plans
    assert one.hours == pytest.approx((600 + 1000 * one.time.step) / 3600)
    assert one.usd == pytest.approx(1.20 * 4 * one.hours)
    assert one.spot_usd == pytest.approx(0.4 * 1.20 * 4 * one.spot_hours)
    assert one.spot_hours > one.hours
    assert one.epochs == 64
    assert found.cheapest is found.fastest is one


def test_the_save_interval_is_youngs(config):
    config = load_config(config)
    work = traced(config)[1]
    saves = saves_of(config, work, slice_named("v5e:4x4"), hours=6)
    assert saves.bytes == 16 * work.parameters
    assert saves.seconds == pytest.approx(saves.bytes / 4 / 200e6)
    assert saves.interval == pytest.approx(math.sqrt(2 * saves.seconds * 6 * 3600))


def test_sets_that_are_here_are_looked_at(config, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    shards = prepare_toy(write_toy(tmp_path / "toy"), tmp_path / "shards")
    found = plan(load_config(config, [f"data.paths=[{shards}]"]), PlanSpec(topology=("v5e:2x2",)))
    assert (found.data.examples, found.inputs) == (24, "pictures")
    assert found.disk[0] == sum(path.stat().st_size for path in shards.glob("*.tfrecord*"))


def test_a_table_marks_the_cheapest_and_the_fastest(config, capsys):
    command = ["plan", str(config), "--topology=v5e:2x2", "--chips=v6e-16", "--topology=v6e:16x16"]
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith("v")}
    assert rows["v5e:2x2"].endswith("cheapest")
    assert rows["v6e-16"].endswith("fastest")
    # A batch that does not divide over 256 chips is said, and does not end the others.
    assert "v6e:16x16: data.batch_size=64 does not divide over 256 devices; 256 would" in text


def test_json_has_every_figure(config, capsys):
    assert cli.main(["plan", str(config), "--topology", "v5e:2x2", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    (one,) = content["plans"]
    assert one["fits"] and one["step_seconds"] > 0
    assert content["memory_error"] < 0.1 and content["prices_as_of"]


# ---- bad input


def one_line(command, capsys, *words, code=78):
    assert cli.main(command) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert all(word in error for word in words), error


def test_bad_input_is_one_line(config, tmp_path, capsys):
    base = ["plan", str(config)]
    one_line([*base, "--topology", "v5e:5x5"], capsys, "v5e:5x5", "nearest is v5e:4x8")
    one_line([*base, "--chips", "v9-8"], capsys, "v9-8: no such chip", "there are v4")
    one_line([*base, "--examples", "0"], capsys, "--examples 0")
    one_line([*base, "--preempted-every", "0"], capsys, "--preempted-every 0")
    one_line([*base, "--prices", "none.yaml"], capsys, "none.yaml", "no such file")
    bad = tmp_path / "prices.yaml"
    bad.write_text("as_of: today")
    one_line([*base, "--prices", str(bad)], capsys, "want the keys as_of, chip_hour")
    batch = "data.batch_size=66"
    one_line([*base, "--topology", "v5e:2x2", batch], capsys, batch, "64 would")


def test_what_does_not_fit_is_told_with_what_does(config, capsys):
    large = "data.batch_size=4000000"
    command = ["plan", str(config), "--topology", "v5e:2x2", large]
    one_line(command, capsys, large, "does not fit v5e:2x2", " does, or set model.remat=true")
    most = plan(load_config(config), SPEC).plans[0].memory.most_examples * 4
    assert cli.main(["plan", str(config), "--topology", "v5e:2x2", f"data.batch_size={most}"]) == 0


# ---- prices


def test_the_user_s_prices_are_taken(config, tmp_path):
    prices = dataclasses.asdict(load_prices()) | {"chip_hour": {"v5e": 2.4}}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(prices))
    spec = dataclasses.replace(SPEC, prices=str(file))
    one, other = (plan(load_config(config), s).plans[0] for s in (SPEC, spec))
    assert other.usd == pytest.approx(2 * one.usd)
    spec = dataclasses.replace(spec, topology=("v6e:2x2",))
    assert plan(load_config(config), spec).plans[0].usd is None


def test_a_bucket_of_another_region_costs():
    prices = load_prices()
    assert egress_warning("us-west4", "us-west4-a", 100, prices) is None
    assert "2.00 USD" in egress_warning("us-central1", "us-west4-a", 100, prices)
    assert "8.00 USD" in egress_warning("EUROPE-WEST4", "us-west4-a", 100, prices)
