"""What `supervise` does in each scenario: its exit code, its calls, and that it ends."""

import shlex
import shutil

import pytest

from tests.tpu_scripts.pods import GKE, Cloud, check_calls, check_stub

RUNNING = ["running", "running"]

SCENARIOS = {
    "happy": (0, {"attempts": [[RUNNING, RUNNING, ["0", "0"]]]}),
    "preempted_twice": (
        0,
        {
            "attempts": [[RUNNING, "preempt"], [RUNNING, ["75", "75"], "preempt"], [["0", "0"]]],
            "saved": [10, 20, 30],
        },
    ),
    "saved_and_again_in_place": (
        0,
        {"attempts": [[["75", "75"]], [["0", "0"]]], "saved": [10, 20]},
    ),
    "crashes": (
        70,
        {"attempts": [[["70", "134"]]] * 9, "saved": [None] * 9},
    ),
    "crash_with_progress": (
        0,
        {"attempts": [[["134", "70"]], [["70", "134"]], [["0", "0"]]], "saved": [5, 9, 12]},
    ),
    "bad_data": (65, {"attempts": [[RUNNING, ["65", "running"], ["65", "134"]]]}),
    "bad_configuration": (78, {"attempts": [[["78", "78"]]]}),
    "no_progress": (
        70,
        {
            "attempts": [[["75", "75"]], [["143", "143"]], [["75", "75"]], [["0", "0"]]],
            "saved": [10, 10, 10, 20],
        },
    ),
    "partial_failure": (
        0,
        {
            "attempts": [[RUNNING, ["137", "running"], ["137", "134"]], [["0", "0"]]],
            "saved": [10, 20],
        },
    ),
    "a_worker_hangs": (
        0,
        {"attempts": [[["70", "running"], ["70", "137"]], [["0", "0"]]], "saved": [10, 20]},
    ),
    "launch_misses_a_worker": (0, {"attempts": [[["running", "old"], RUNNING, ["0", "0"]]]}),
    "a_worker_is_out_of_reach": (
        0,
        {"attempts": [[RUNNING, ["running", "gone"]], [["0", "0"]]], "saved": [10, 20]},
    ),
    "ssh_255": (
        0,
        {
            "attempts": [[["0", "0"]]],
            "fail": [[" setup ", 255, "ssh: connect to host port 22: Connection refused", 2]],
        },
    ),
    "quota": (
        70,
        {
            "attempts": [],
            "fail": [["resources create", 1, "Quota 'TPUV4' exceeded. Limit: 16", 99]],
        },
    ),
    "interrupt": (130, {"attempts": [[RUNNING, "interrupt"]]}),
    "cloud_is_down": (
        70,
        {
            "attempts": [],
            "fail": [["resources describe", 1, "the service is currently unavailable", 99]],
        },
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(name, tmp_path):
    exit_code, script = SCENARIOS[name]
    cloud = Cloud(tmp_path, {"workers": 2, **script})
    settings = {"GRACE_SECONDS": "0"} if name == "a_worker_hangs" else {}
    done = cloud.pod("supervise", **settings)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    check_calls(name, cloud)


def test_an_interrupted_supervisor_leaves_the_slice_and_the_next_one_finds_its_attempt(tmp_path):
    cloud = Cloud(
        tmp_path, {"workers": 2, "attempts": [[RUNNING, "interrupt", RUNNING, ["0", "0"]]]}
    )
    first = cloud.pod("supervise")
    assert first.returncode == 130 and "costs money" in first.stderr
    assert " delete " not in cloud.calls()
    second = cloud.pod("supervise")
    assert second.returncode == 0, second.stderr
    assert "is under way" in second.stderr
    assert cloud.calls().count("worker.sh launch") == cloud.calls().count("resources create") == 1


def test_the_end_gives_the_slice_back_unless_it_is_kept(tmp_path):
    for options, deletions in (((), 1), (("--keep",), 0)):
        folder = tmp_path / str(deletions)
        folder.mkdir()
        cloud = Cloud(folder, {"workers": 2, "attempts": [[["65", "65"]]]})
        assert cloud.pod("supervise", *options).returncode == 65
        assert cloud.calls().count("queued-resources delete") == deletions


def test_quota_says_where_to_look(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, **SCENARIOS["quota"][1]})
    assert "dead queued resources" in cloud.pod("supervise").stderr


def test_what_the_doctor_finds_is_shown_and_nothing_is_launched(tmp_path):
    says = "failure  workers  jax differs: 0.9 on worker 1; 0.10 on worker 0  set them up"
    for code, error in ((78, "mend what it names"), (65, "mend what it names"), (70, "(exit 70)")):
        folder = tmp_path / str(code)
        folder.mkdir()
        doctor = {"exit_code": code, "says": says}
        cloud = Cloud(folder, {"workers": 2, "state": "ACTIVE", "doctor": doctor})
        done = cloud.pod("preflight")
        assert done.returncode == code
        shown, last = done.stderr.strip().splitlines()
        assert shown == says and last.startswith("pod preflight: mre doctor") and error in last
        assert cloud.pod("supervise").returncode == code
        assert " launch " not in cloud.calls()


def test_the_doctor_is_asked_about_what_the_command_trains(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "state": "ACTIVE"})
    assert cloud.pod("preflight").stdout.strip() == "all is well"
    config = ["configs/reward_ip2p.yaml", "data.paths=[gs://bucket/cached]"]
    assert examined(cloud) == [*config, "--run=gs://bucket/runs/r", "--workers=2"]
    cloud.pod("preflight", COMMAND="mre sample a.jsonl --out {run} --shard {worker}/{workers}")
    assert examined(cloud) == ["--run=gs://bucket/runs/r", "--alone"]


def examined(cloud):
    """What the last preflight has asked `mre doctor` for."""
    word = cloud.raw_calls()[-1]["words"][-1]
    words = shlex.split(word.removeprefix("--command="))
    return words[words.index("preflight") + 1 :]


def test_another_region_is_a_warning(tmp_path):
    for number, (bucket, warned) in enumerate((("EU", True), ("US", False), ("US-EAST1", True))):
        folder = tmp_path / str(number)
        folder.mkdir()
        cloud = Cloud(folder, {"workers": 2, "bucket": bucket, "attempts": []})
        done = cloud.pod("create")
        assert done.returncode == 0
        assert ("warning: bucket is in" in done.stderr) == warned


def test_deleting_asks(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": []})
    assert cloud.pod("delete").returncode == 78
    assert not cloud.raw_calls()
    assert cloud.pod("delete", "--yes").returncode == 0
    assert "queued-resources delete reward-1 --force" in cloud.calls()


GKE_SCENARIOS = {
    "gke_happy": (0, {"statuses": [{}, {"conditions": [{"type": "Completed", "status": "True"}]}]}),
    "gke_bad_data": (
        65,
        {
            "statuses": [{"restarts": 1, "conditions": [{"type": "Failed", "status": "True"}]}],
            "codes": "65 134 ",
        },
    ),
    "gke_no_progress": (
        70,
        {"statuses": [{"restarts": n} for n in range(9)], "saved": [4] * 9},
    ),
}


@pytest.mark.parametrize("name", GKE_SCENARIOS)
def test_gke_scenario(name, tmp_path):
    exit_code, script = GKE_SCENARIOS[name]
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": [], **script})
    done = cloud.pod("supervise", **GKE)
    assert done.returncode == exit_code, done.stderr
    assert "Traceback" not in done.stderr
    check_calls(name, cloud)


def test_gcluster_restarts_what_is_to_be_restarted(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": [], "statuses": [{}]})
    assert cloud.pod("launch", **GKE, SUBMIT="gcluster").returncode == 0
    (words,) = [call["words"] for call in cloud.raw_calls() if call["words"][0] == "gcluster"]
    assert words[words.index("--restart-on-exit-codes") + 1] == "70,75,134,137,143,255"
    assert words[words.index("--restarts") + 1] == "50"


def test_the_programs_of_the_tests_are_the_stubs(tmp_path):
    cloud = Cloud(tmp_path, {})
    assert cloud.environment["PATH"] == str(cloud.programs)
    real = tmp_path / "real"
    shutil.copytree(cloud.programs, real)
    with pytest.raises(RuntimeError, match="could cost money"):
        check_stub("gcloud", f"{real}:{cloud.programs}", cloud.programs)
    cloud.path = f"{real}:{cloud.path}"
    with pytest.raises(RuntimeError, match="could cost money"):
        cloud.pod("create")
    assert not cloud.raw_calls()
