"""A plan from end to end, on the toy world's editor, which is traced in a second."""

import dataclasses
import json
import math

import pytest

from mre_jax import cli
from mre_jax.errors import ConfigError
from mre_jax.planning import compiling
from mre_jax.planning.calibration import compiled_programs, fitted
from mre_jax.planning.hardware import slice_named
from mre_jax.planning.memory import layout_on, memory_of
from mre_jax.planning.plan import plan
from mre_jax.planning.prices import egress_warning, load_prices
from mre_jax.planning.sampling import operations as operations_of_edits
from mre_jax.planning.sampling import plan_edits
from mre_jax.planning.spec import EditsSpec, PlanSpec
from mre_jax.planning.storage import saves_of
from mre_jax.planning.timing import operations
from mre_jax.planning.work import edit_work, sizes_of, work_of
from mre_jax.toyworld import EDITOR
from mre_jax.training.config import ModelConfig, load_config
from tests.data.prepared import prepare_toy, write_toy
from tests.evaluation import buckets

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


def test_hosts_read_their_part_of_a_bucket_or_copy_all_of_it(config, tmp_path, monkeypatch):
    pytest.importorskip("tensorflow_datasets")
    prepare_toy(write_toy(tmp_path / "toy"), tmp_path / "shards")
    buckets.mount(monkeypatch, "gs://bucket", tmp_path)
    size = sum(path.stat().st_size for path in (tmp_path / "shards").glob("*.tfrecord*"))
    settings = ["data.paths=[gs://bucket/shards]", "steps=3000000"]
    spec = PlanSpec(topology=("v5e:4x4",), zone="us-west4-a")

    def planned(*more):
        return plan(load_config(config, [*settings, *more]), spec, ask=lambda _: "US-EAST1")

    read, copied = planned(), planned("data.requests=0")
    (one,) = read.plans
    rate = one.time.images / 4 * size / 24 / 1e6
    assert f"a host reads up to {rate:.0f} MB/s" in str(read)
    assert f"of them {size / 1e9:.1f} on the disk of each host" in str(copied)
    # Four hosts copy the set once; in so many steps they read it some millions of times.
    share = read.config.steps * read.config.data.batch_size / 24
    for found, times in ((read, share), (copied, 4)):
        told = egress_warning("us-east1", "us-west4-a", times * size / 1e9, found.prices)
        assert any(told in note for note in found.notes)


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
    base = plan(load_config(config), SPEC)
    assert not any("to spare" in note for note in base.notes)
    most = base.plans[0].memory.most_examples * 4
    assert cli.main(["plan", str(config), "--topology", "v5e:2x2", f"data.batch_size={most}"]) == 0
    assert "warning: v5e:2x2 has 0.0 GiB to spare" in capsys.readouterr().out


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


def test_the_plan_warns_of_a_bucket_elsewhere(config):
    asked = []

    def ask(command):
        asked.append(command)
        return "EUROPE-WEST4\n"

    spec = dataclasses.replace(SPEC, run="gs://bucket/run", zone="us-west4-a")
    notes = plan(load_config(config), spec, ask=ask).notes
    assert any(note.startswith("warning: gs://bucket/run: ") for note in notes)
    assert [command[:4] for command in asked] == [["gcloud", "storage", "buckets", "describe"]]
    assert not any("warning" in note for note in plan(load_config(config), SPEC, ask=ask).notes)
    assert len(asked) == 1


# ---- a judge


def test_a_judge_costs_by_the_example(config, capsys):
    command = ["plan", str(config), "--topology=v5e:2x2", "--examples=1000", "--json"]
    assert cli.main([*command, "--judge", "openai:gpt-4o"]) == 0
    found = json.loads(capsys.readouterr().out)["judging"]
    assert found["requests"] == 3000
    assert 0 < found["batch_usd"] == found["usd"] / 2
    # A picture of 512 px is some 255 to 765 tokens, of 2.5 dollars a million.
    assert 3 < found["usd"] < 30
    bad = command[:3]
    one_line([*bad, "--judge", "openai:gpt-4o"], capsys, "--judge", "give --examples")
    one_line([*bad, "--examples=9", "--judge", "toy"], capsys, "toy sends nothing")


# ---- edits


def test_edits_take_all_evaluations_in_three_branches(tmp_path, capsys):
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "a"}\n' * 500)
    spec = PlanSpec(
        topology=("v5e:2x2", "v6e:4x4"), edits=EditsSpec(model=str(EDITOR), pixels=24, steps=10)
    )
    found = plan_edits(items, spec)
    one, other = found.plans
    assert found.items == 500
    assert one.hours == pytest.approx((600 + 500 / 4 * one.seconds) / 3600)
    assert one.usd == pytest.approx(1.2 * 4 * one.hours)
    assert other.hours < one.hours
    work = edit_work(sizes_of(ModelConfig(str(EDITOR)), as_stored=True), 24)
    longer = dataclasses.replace(spec.edits, steps=20)
    assert operations_of_edits(work, longer) - operations_of_edits(work, spec.edits) == (
        10 * 3 * work.forward
    )
    heun = dataclasses.replace(spec.edits, scheduler="heun")
    assert operations_of_edits(work, heun) > 1.8 * 10 * 3 * work.forward
    assert "cheapest" in str(found) and "fastest" in str(found)
    command = ["plan", "sample", str(items), "--model", str(EDITOR), "--pixels=24"]
    assert cli.main([*command, "--topology=v5e:2x2"]) == 0
    assert "500 edits" in capsys.readouterr().out


def test_bad_input_of_edits_is_one_line(tmp_path, capsys):
    one_line(["plan", "sample"], capsys, "give one list")
    one_line(["plan", "sample", "nowhere.jsonl"], capsys, "nowhere.jsonl does not exist", code=65)
    (tmp_path / "empty.jsonl").write_text("")
    one_line(["plan", "sample", str(tmp_path / "empty.jsonl")], capsys, "no edits", code=65)
    one_line(["plan", "sample", "x", "--pixels", "7"], capsys, "--pixels 7")


# ---- compiling


def test_what_is_compiled_is_kept_and_said(config, tmp_path, capsys, monkeypatch):
    """libtpu's part is left to `test_compiling.py`."""
    made = compiled_programs(own=tmp_path / "none")[0]
    program = dataclasses.replace(made, topology="v5e:2x2", batch=16, date="2026-12-01")
    asked = []
    monkeypatch.setattr(compiling, "devices_of", lambda topology: asked.append(topology) or [])
    monkeypatch.setattr(compiling, "compile_step", lambda *args: asked.append(args[3]))
    monkeypatch.setattr(compiling, "measured", lambda *args: program)
    command = ["plan", str(config), "--topology=v5e:2x2", "--compile", "--inputs=latents"]
    assert cli.main(command) == 0
    assert asked == ["v5e:2x2", "latents"]
    assert "v5e:2x2 compiled: 0.83 + 7.15 GiB of 15.75: fits" in capsys.readouterr().out
    assert compiled_programs()[-1] == program
    one_line(["plan", str(config), "--chips=h100-8", "--compile"], capsys, "want one of v5e, v6e")


def test_without_libtpu_compiling_is_refused_in_one_line(config, capsys, monkeypatch):
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    command = ["plan", str(config), "--topology=v5e:2x2", "--compile"]
    one_line(command, capsys, "pip install 'mre_jax[tpu]'")
