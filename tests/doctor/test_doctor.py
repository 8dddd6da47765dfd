"""Every failure that the doctor knows, provoked once; and a healthy machine without false alarm."""

import dataclasses
import fcntl
import json
import shutil

import jax
import pytest
from etils import epath

from mre_jax import cli
from mre_jax.data.cache.description import Cache
from mre_jax.data.records.manifest import load_manifest, write_manifest
from mre_jax.doctor.checks.chips import check_devices, check_fit, check_holders
from mre_jax.doctor.checks.clock import check_clock
from mre_jax.doctor.checks.cloud import check_queued_resources, check_region
from mre_jax.doctor.checks.data import check_cached, check_data, open_sets
from mre_jax.doctor.checks.environment import check_environment
from mre_jax.doctor.checks.judge import check_judge
from mre_jax.doctor.checks.model import check_model
from mre_jax.doctor.checks.software import check_software
from mre_jax.doctor.checks.storage import check_compile_cache, check_disk, check_folder
from mre_jax.doctor.examine import Diagnosis, examine
from mre_jax.doctor.finding import exit_code, failure, ok, warning
from mre_jax.doctor.machine import Machine
from mre_jax.doctor.spec import DoctorSpec
from mre_jax.doctor.workers import WorkerReport, differences
from mre_jax.judges.spec import JudgeSpec
from mre_jax.planning.prices import load_prices
from mre_jax.training.config import load_config
from tests.doctor.conftest import NOW


def one(findings, level, *words, remedy=""):
    """The only finding that is not ok, which says these words."""
    bad = [finding for finding in findings if finding.level != "ok"]
    assert [finding.level for finding in bad] == [level], bad
    assert all(word in bad[0].says for word in words), bad[0]
    assert bad[0].remedy and remedy in bad[0].remedy, bad[0]
    return bad[0]


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# ---- a healthy machine


def test_a_healthy_machine_has_no_false_alarm_and_keeps_no_trace(
    world, config, shards, tmp_path, monkeypatch
):
    monkeypatch.setattr("mre_jax.doctor.checks.software.git_id", lambda: "0" * 40)
    before = files(tmp_path), files(shards)
    judge = JudgeSpec("toy")
    diagnosis = examine(DoctorSpec(str(tmp_path / "run"), 8, judge), config, world.machine)
    assert {finding.level for finding in diagnosis.findings} == {"ok"}, str(diagnosis)
    assert diagnosis.exit_code == 0
    assert (files(tmp_path), files(shards)) == before
    assert not world.asked
    checks = {finding.check for finding in diagnosis.findings}
    assert checks == {
        *("chips", "environment", "software", "devices", "all-reduce", "mesh", "clock"),
        *("compile cache", "run", "data", "weights", "cache", "judge", "disk"),
    }


def test_a_healthy_pod_in_the_cloud_has_no_false_alarm(world):
    world.with_chips()
    world.programs = {"queued-resources list": "[]", "regions describe": '{"quotas": []}'}
    machine = world.machine
    checks = (check_holders, check_environment, check_clock, check_queued_resources)
    found = [finding for check in checks for finding in check(machine)]
    assert {finding.level for finding in found} == {"ok"}
    assert machine.zone() == "us-west4-a"


# ---- who has the chips


def test_a_process_that_holds_a_chip_is_named(world):
    world.with_chips()
    held = world.root / "proc" / "4711" / "fd"
    held.mkdir(parents=True)
    (held / "7").symlink_to("/dev/accel2")
    (held.parent / "cmdline").write_bytes(b"python\0-m\0mre_jax\0train\0")
    found = one(check_holders(world.machine), "failure", "accel2", "4711", "mre_jax train")
    assert found.remedy == "stop it: kill 4711" and found.code == 70


def test_chips_of_vfio_are_seen_too(world):
    (world.root / "dev" / "vfio").mkdir(parents=True)
    (world.root / "dev" / "vfio" / "0").touch()
    held = world.root / "proc" / "12" / "fd"
    held.mkdir(parents=True)
    (held / "3").symlink_to("/dev/vfio/0")
    one(check_holders(world.machine), "failure", "vfio/0", "12")


def test_its_own_process_holds_nothing_against_it(world):
    world.with_chips()
    held = world.root / "proc" / "1" / "fd"
    held.mkdir(parents=True)
    (held / "7").symlink_to("/dev/accel2")
    assert [finding.level for finding in check_holders(world.machine)] == ["ok"]


def test_a_lock_of_libtpu_is_found_and_one_left_behind_is_not_held(world):
    world.with_chips()
    lock = world.root / "tmp" / "libtpu_lockfile"
    lock.touch()
    assert [finding.level for finding in check_holders(world.machine)] == ["ok"]
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        one(check_holders(world.machine), "failure", "locked", remedy="fuser")


def test_nothing_further_is_asked_while_the_chips_are_held(world):
    world.with_chips()
    lock = world.root / "tmp" / "libtpu_lockfile"
    world.environment["TPU_WORKER_ID"] = "3"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        diagnosis = examine(machine=world.machine, join=lambda: pytest.fail("joined"))
    assert diagnosis.reports[0].worker == 3
    assert diagnosis.exit_code == 70


# ---- variables


@pytest.mark.parametrize(
    ("name", "value", "level", "word"),
    [
        ("MEGASCALE_COORDINATOR_ADDRESS", "10.0.0.2:8080", "failure", "several slices"),
        ("JAX_PLATFORMS", "cpu", "failure", "4 accelerators"),
        ("JAX_PROCESS_ID", "1", "failure", "without the others"),
        ("JAX_DEBUG_NANS", "1", "warning", "slower"),
        ("XLA_FLAGS", "--xla_force_host_platform_device_count=8", "warning", "for tests"),
        ("TPU_VISIBLE_CHIPS", "0", "warning", "leaves 0"),
    ],
)
def test_a_stale_variable_is_named(world, name, value, level, word):
    world.with_chips()
    world.environment[name] = value
    one(check_environment(world.machine), level, name, word)


def test_a_tpu_is_asked_for_where_none_is(world):
    world.environment["JAX_PLATFORMS"] = "tpu,cpu"
    one(check_environment(world.machine), "failure", "no TPU is here")


def test_several_slices_are_no_stale_variable(world):
    world.environment |= {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_COORDINATOR_ADDRESS": "a:1"}
    assert [finding.level for finding in check_environment(world.machine)] == ["ok"]


# ---- software, devices, clock


def test_an_older_library_is_named(monkeypatch):
    monkeypatch.setattr("mre_jax.doctor.checks.software.git_id", lambda: None)
    one(check_software({"jax": "0.9.1"}), "failure", "jax 0.9.1", ">=0.10.2")
    one(check_software({}, chips=4), "failure", "no libtpu", remedy="mre_jax[tpu]")


def test_changed_files_are_a_warning(monkeypatch):
    monkeypatch.setattr("mre_jax.doctor.checks.software.git_id", lambda: "abc+changes")
    one(check_software({}), "warning", "differ from commit")


def test_devices_that_are_not_there_or_not_used(config):
    one(check_devices(None, 16), "failure", "8 x cpu", "not the 16 asked for")
    one(check_devices(None, None, chips=4), "failure", "4 accelerators are not used")
    assert one(check_devices(None, 8, workers=2), "failure", "1 workers, not the 2").code == 70
    bad = dataclasses.replace(config, data=dataclasses.replace(config.data, batch_size=12))
    assert one(check_devices(bad, None), "failure", "batch_size=12").code == 78


def test_a_configuration_that_does_not_fit_the_chips(config):
    data = dataclasses.replace(config.data, batch_size=4_000_000)
    for kind in ("TPU v5 lite", "NVIDIA H100 80GB HBM3"):
        fitting = check_fit(config, "pictures", kind, 4)
        assert [finding.level for finding in fitting] == ["ok"]
        large = check_fit(dataclasses.replace(config, data=data), "pictures", kind, 4)
        assert one(large, "failure", "does not fit", remedy=" does, ").code == 78


def test_a_backend_that_does_not_start_is_one_line(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'tpu': busy\nand more")

    monkeypatch.setattr(jax, "devices", fail)
    assert "\n" not in one(check_devices(None, None), "failure", "busy").says


def test_a_sum_that_is_wrong_is_a_broken_chip(monkeypatch):
    monkeypatch.setattr("mre_jax.doctor.checks.chips.jnp.sum", lambda x: x[0] * 7)
    one(check_devices(None, 8), "failure", "adds up to 7", remedy="delete the slice")


def test_a_clock_that_is_wrong(world):
    world.clock = 0.0
    one(check_clock(world.machine), "failure", "1970")
    world.with_chips()
    world.clock = NOW + 300
    one(check_clock(world.machine), "warning", "+300 s")


# ---- where it writes


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_bytes", refuse)
    one(check_folder("run", str(tmp_path)), "failure", "Permission denied", remedy="may write")
    assert not list(tmp_path.iterdir())


def test_a_bucket_that_is_not_there():
    one(check_folder("run", "nowhere://bucket/run"), "failure", "nowhere://bucket/run")


def test_a_compile_cache_that_others_write_or_nobody(world, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    world.environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    assert [finding.level for finding in check_compile_cache(world.machine)] == ["ok"]
    cache.chmod(0o777)
    one(check_compile_cache(world.machine), "failure", "others", remedy="chmod go-w")
    cache.chmod(0o755)
    monkeypatch.setattr("mre_jax.doctor.checks.storage.os.access", lambda *args: False)
    one(check_compile_cache(world.machine), "warning", "every start compiles")


def test_a_disk_without_room(world, tmp_path):
    world.free = 10**9
    asked = str(tmp_path / "sets"), 2 * 10**9, "copies of the sets", world.machine
    one(check_disk(*asked), "failure", "take 2.0 GB, 1.0 are free")
    world.free = int(2.1e9)
    one(check_disk(*asked), "warning", "2.1 are free")
    assert not list(check_disk("gs://bucket/set", *asked[1:]))


def test_a_disk_without_room_for_checkpoints_or_copies(world, config, tmp_path):
    world.free = 10**6
    found = examine(DoctorSpec(str(tmp_path / "run")), config, world.machine).findings
    (disk,) = (finding for finding in found if finding.check == "disk")
    assert disk.level == "failure" and "checkpoints take" in disk.says


# ---- data


def data_findings(config, folder):
    config = dataclasses.replace(
        config, data=dataclasses.replace(config.data, paths=(str(folder),))
    )
    sets = open_sets(config)
    return config, sets, list(check_data(config, sets))


@pytest.fixture
def copied(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "shards")


def test_a_missing_shard_or_manifest_is_named(config, copied):
    shard = copied / load_manifest(copied).shards[1].file
    shard.unlink()
    found = one(data_findings(config, copied)[2], "failure", shard.name, "missing")
    assert found.code == 65
    (copied / "manifest.json").unlink()
    one(data_findings(config, copied)[2], "failure", "no manifest.json", remedy="mre prepare")


@pytest.mark.parametrize("where", [20, -8])
def test_a_damaged_first_or_last_record_is_named(config, copied, where):
    shard = copied / load_manifest(copied).shards[0].file
    data = bytearray(shard.read_bytes())
    data[where] ^= 1
    shard.write_bytes(data)
    found = list(data_findings(config, copied)[2])
    assert [finding.level for finding in found] == ["failure"]
    assert shard.name in found[0].says and found[0].code == 65


def test_rewards_that_are_not_there(config, copied):
    manifest = load_manifest(copied)
    write_manifest(copied, dataclasses.replace(manifest, measured={"rewarded": 0}))
    assert [finding.level for finding in data_findings(config, copied)[2]] == ["ok"]
    weighing = dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, score_weighting="linear")
    )
    one(data_findings(weighing, copied)[2], "failure", "no rewards", remedy="--rewards")


def test_a_cache_of_other_weights(config, copied, world):
    manifest = load_manifest(copied)
    cache = Cache("0" * 64, "float16", 16, "lanczos", (2, 2, 24))
    settings = {**manifest.settings, **cache.settings()}
    write_manifest(copied, dataclasses.replace(manifest, settings=json.loads(json.dumps(settings))))
    config, sets, findings = data_findings(config, copied)
    assert [finding.level for finding in findings] == ["ok"]
    hashes, _ = check_model(config, None, world.machine)
    one(check_cached(config, sets, hashes), "failure", "another VAE", remedy="mre data cache")
    assert [finding.level for finding in check_cached(config, sets, None)] == ["ok"]


# ---- weights


def with_model(config, **values):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **values))


def test_weights_that_are_not_there_or_do_not_fit(config, world):
    for values, words in (
        ({"init_from": "nowhere"}, "nowhere"),
        ({"in_channels": 8}, "in_channels=8"),
    ):
        found = check_model(with_model(config, **values), None, world.machine)[1]
        one(found, "failure", words)


def test_the_hub_is_asked_only_where_an_id_needs_it(config, world):
    place = f"org/name@{'0' * 40}"
    asking = with_model(config, init_from=place)
    assert [f.level for f in check_model(asking, None, world.machine)[1]] == ["ok"]
    assert world.asked == [f"https://huggingface.co/api/models/org/name/revision/{'0' * 40}"]
    world.environment["HF_HUB_OFFLINE"] = "1"
    one(check_model(asking, None, world.machine)[1], "failure", "was not fetched before")
    del world.environment["HF_HUB_OFFLINE"]
    world.status = 404
    one(check_model(asking, None, world.machine)[1], "failure", "answers 404")
    world.status = 0
    one(check_model(asking, None, world.machine)[1], "failure", "does not answer")


# ---- judges


def judge(world, name="openai:gpt-5.4", **options):
    return list(check_judge(JudgeSpec(name, **options), world.machine))


def test_a_judge_without_key_or_with_a_bad_one(world):
    one(judge(world), "failure", "no key in OPENAI_API_KEY")
    world.environment["OPENAI_API_KEY"] = "sk-canary-12345678"
    assert [finding.level for finding in judge(world)] == ["ok"]
    assert world.asked == ["https://api.openai.com/v1/models/gpt-5.4"]
    for status, level, word in ((401, "failure", "refuses"), (404, "warning", "knows no model")):
        world.status = status
        assert "canary" not in str(one(judge(world), level, word))
    world.status = 503
    one(judge(world), "failure", "503")
    world.status = 0
    one(judge(world, base_url="http://10.0.0.1:8000/v1"), "failure", "does not answer")


def test_a_judge_that_retires_or_has(world):
    world.environment["OPENAI_API_KEY"] = "sk-canary-12345678"
    one(judge(world, "openai:gpt-4o"), "warning", "2027-01-14")
    one(judge(world, "openai:gpt-4.1-nano"), "failure", "2026-10-23", remedy="another model")
    one(judge(world, "nobody"), "failure", "nobody")


# ---- the cloud


def test_dead_queued_resources_and_quotas(world):
    world.with_chips()
    listed = [
        {"name": "projects/p/locations/z/queuedResources/old", "state": {"state": "SUSPENDED"}},
        {"name": "projects/p/locations/z/queuedResources/new", "state": {"state": "ACTIVE"}},
    ]
    world.programs = {"queued-resources list": json.dumps(listed)}
    found = one(check_queued_resources(world.machine), "warning", "old is SUSPENDED")
    assert "delete old --zone=us-west4-a" in found.remedy
    quotas = [{"metric": "TPU_LITE_PODSLICE_V5", "limit": 16, "usage": 16}]
    world.programs = {
        "queued-resources list": "[]",
        "regions describe us-west4": json.dumps({"quotas": quotas}),
    }
    one(check_queued_resources(world.machine), "warning", "all 16 in use")
    world.programs = {"nothing": ""}
    one(check_queued_resources(world.machine), "warning", "does not list", remedy="auth login")
    # It lists and describes; nothing is made, changed or deleted.
    assert all(" list " in text or " describe " in text for text in world.asked if "gcloud" in text)


def test_a_bucket_of_another_region(world):
    world.with_chips()
    world.programs = {"buckets describe gs://near": "US-WEST4", "buckets describe gs://far": "EU"}
    prices = load_prices()
    near = check_region("gs://near/run", world.machine, prices)
    assert [finding.level for finding in near] == ["ok"]
    found = check_region("gs://far/run", world.machine, prices)
    one(found, "warning", "in eu", "us-west4", "0.08 USD", remedy="region of the chips")
    assert not list(check_region("runs/first", Machine(environment={}), prices))


# ---- several workers


def test_what_differs_between_workers_is_named():
    facts = [{"jax": "0.10.2", "commit": "a"}] * 3 + [{"jax": "0.10.1", "commit": "a"}]
    reports = [WorkerReport(n, f"host{n}", (), fact, 100.0) for n, fact in enumerate(facts)]
    one(differences(reports), "failure", "jax differs: 0.10.1 on worker 3; 0.10.2 on workers 0, 1")
    late = [WorkerReport(0, "a", (), {}, 100.0), WorkerReport(1, "b", (), {}, 130.0)]
    one(differences(late), "warning", "worker 1 is 30 s ahead of worker 0")
    same = [WorkerReport(0, "a", (), {}), WorkerReport(0, "b", (), {})]
    one(differences(same), "failure", "one number")


def test_the_table_says_once_what_all_have_and_who_has_what():
    alike, bad = ok("clock", "right"), failure("disk", "full", "free some", 70)
    reports = (WorkerReport(0, "a", (alike,)), WorkerReport(1, "b", (alike, bad)))
    text = str(Diagnosis(reports, (warning("workers", "jax differs", "make them alike"),)))
    assert text.count("right") == 1
    assert "worker 1: full" in text and "jax differs" in text
    assert text.endswith("2 workers: 1 failure, 1 warning")


def test_the_exit_code_is_that_of_the_worst():
    retry, data, config = (failure("a", "b", "c", code) for code in (70, 65, 78))
    assert exit_code([]) == exit_code([ok("a", "b"), warning("a", "b", "c")]) == 0
    assert exit_code([retry]) == 70
    assert exit_code([retry, data]) == 65
    assert exit_code([retry, config, data]) == 78


# ---- the command


def test_the_command_prints_a_table_or_json(config_file, tmp_path, capsys):
    command = ["doctor", str(config_file), "--alone", "--run", str(tmp_path / "run")]
    assert cli.main(command) == 0
    assert "1 worker: 0 failures" in capsys.readouterr().out
    assert cli.main([*command, "--json", "--devices", "9"]) == 78
    content = json.loads(capsys.readouterr().out)
    assert content["exit_code"] == 78
    bad = [f for f in content["reports"][0]["findings"] if f["level"] == "failure"]
    assert [finding["check"] for finding in bad] == ["devices"]


def test_a_configuration_that_is_none_is_one_line(capsys):
    assert cli.main(["doctor", "nowhere.yaml", "--alone"]) == 78
    assert "nowhere.yaml does not exist" in capsys.readouterr().err


def test_a_damaged_set_gives_its_exit_code(config_file, tmp_path, capsys):
    setting = f"data.paths=[{tmp_path / 'nowhere'}]"
    assert cli.main(["doctor", str(config_file), "--alone", setting]) == 65
    assert "no manifest.json" in capsys.readouterr().out
    assert load_config(config_file).steps == 2
