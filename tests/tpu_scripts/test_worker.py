"""`worker.sh`, run for real on two workers: what the user's words and secrets become there."""

import json
import os
import shlex
import sys
import time

import pytest

from tests.tpu_scripts.local_slice import LocalSlice
from tests.tpu_scripts.pods import PATIENCE, ROOT

CANARY = "canary-9f31c07e55"
ODD = """it's "a"; $(touch x) `touch y` * \\ é"""


@pytest.fixture(params=[[{"TPU_WORKER_ID": str(number)} for number in range(2)]])
def slice_(tmp_path, request):
    fake = ROOT / "tests" / "tpu_scripts" / "fake_mre.py"
    environment = {"PATH": os.environ["PATH"], "UPLOAD_SECONDS": "1"}
    mre = f"{sys.executable} '{fake}'"
    made = LocalSlice(tmp_path, mre, environment, request.param, ready=True)
    yield made
    made.take_away()
    made.cloud.pod("delete", "--yes")


@pytest.fixture
def settings(slice_, tmp_path):
    """Of a command that ends well; odd wherever it may be."""
    secrets = tmp_path / "secrets"
    secrets.write_text(f"# keys\nOPENAI_API_KEY={CANARY}\nPLAIN=a 'b' $HOME; c\n")
    secrets.chmod(0o600)
    return {
        **slice_.code,
        "RUN": str(tmp_path / "a run; of 'two'"),
        "COMMAND": f"mre train 0 --run {{run}} {quoted(ODD)} {{worker}}/{{workers}}",
        "ENVIRONMENT": quoted(f"ODD={ODD}"),
        "SECRETS_FILE": str(secrets),
        "GRACE_SECONDS": "1",
    }


def quoted(text):
    """As `pod.env` has a word with spaces and quotes in it."""
    return shlex.quote(text)


def call(slice_, verb, settings, **more):
    done = slice_.cloud.pod(verb, **settings | more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait(slice_, settings, text):
    """Until all workers tell that."""
    end = time.monotonic() + PATIENCE
    while (told := call(slice_, "status", settings)).count(text) < 2:
        assert time.monotonic() < end, told
    return told


def read(slice_, name):
    return [json.loads((home / name).read_text()) for home in slice_.homes]


def test_words_names_and_secrets_arrive_as_they_are(slice_, settings, tmp_path):
    call(slice_, "setup", settings)
    call(slice_, "launch", settings)
    wait(slice_, settings, "ended with exit code 0")
    for number, words in enumerate(read(slice_, "words.json")):
        assert words == ["train", "0", "--run", settings["RUN"], ODD, f"{number}/2"]
    for environment in read(slice_, "environment.json"):
        assert environment["ODD"] == ODD
        assert environment["OPENAI_API_KEY"] == CANARY
        assert environment["PLAIN"] == "a 'b' $HOME; c"
        # Workers that share nothing do not wait for each other's chips.
        assert environment["TPU_CHIPS_PER_PROCESS_BOUNDS"] == "2,2,1"
    assert not list(tmp_path.rglob("x")) and not list(tmp_path.rglob("y")), "a word was executed"


@pytest.mark.parametrize(
    "slice_",
    [[{"TPU_WORKER_ID": "0", "MEGASCALE_SLICE_ID": str(number)} for number in range(2)]],
    indirect=True,
)
def test_workers_of_several_slices_are_counted_through(slice_, settings):
    settings |= {"ACCELERATOR": "v5litepod-8", "SLICES": "2"}
    call(slice_, "setup", settings)
    call(slice_, "launch", settings)
    told = wait(slice_, settings, "ended with exit code 0")
    assert "worker 0: ended" in told and "worker 1: ended" in told
    assert [words[-1] for words in read(slice_, "words.json")] == ["0/2", "1/2"]


def test_a_secret_that_cannot_be_read_is_not_tried_again(slice_, settings):
    """Without the variable the command would fail later, or quietly do something else."""
    call(slice_, "setup", settings)
    slice_.cloud.refuse("secrets versions access", "PERMISSION_DENIED")
    call(slice_, "launch", settings | {"SECRETS_FILE": "", "SECRET": "keys"})
    wait(slice_, settings, "ended with exit code 78")
    assert not any((home / "words.json").exists() for home in slice_.homes)


def test_a_secret_is_nowhere_but_in_its_file_and_in_the_commands_environment(
    slice_, settings, tmp_path
):
    call(slice_, "setup", settings)
    call(slice_, "launch", settings)
    wait(slice_, settings, "ended with exit code 0")
    call(slice_, "logs", settings)
    allowed = {home / "environment.json" for home in slice_.homes}
    allowed |= {home / ".mre_pod" / "reward-1" / "secrets" for home in slice_.homes}
    allowed.add(tmp_path / "secrets")
    files = [path for path in tmp_path.rglob("*") if path.is_file() and ".git" not in path.parts]
    holding = {path for path in files if CANARY.encode() in path.read_bytes()}
    assert holding == allowed
    for home in slice_.homes:
        assert (home / ".mre_pod" / "reward-1" / "secrets").stat().st_mode & 0o777 == 0o600
        assert (home / ".mre_pod" / "reward-1").stat().st_mode & 0o777 == 0o700
    done = slice_.cloud.pod("launch", **settings | {"ENVIRONMENT": f"KEY={CANARY}"})
    assert done.returncode == 78 and CANARY not in done.stderr
    (tmp_path / "secrets").chmod(0o644)
    done = slice_.cloud.pod("setup", **settings)
    assert done.returncode == 78 and "chmod 600" in done.stderr


def test_setup_pins_the_commit_and_does_nothing_twice(slice_, settings):
    for _ in range(2):
        call(slice_, "setup", settings)
    for home in slice_.homes:
        code = home / ".mre_pod" / "reward-1" / "code"
        assert (code / ".git" / "HEAD").read_text().strip() == settings["COMMIT"]
        log = (home / "uv.log").read_text().splitlines()
        assert [line.split(" --")[0] for line in log] == ["venv", "pip sync", "pip install"]
        assert "--require-hashes" in log[1] and "--no-deps" in log[2]
    done = slice_.cloud.pod("setup", **settings | {"COMMIT": "0" * 40})
    assert done.returncode == 70


def test_a_signal_lets_the_command_save(slice_, settings):
    call(slice_, "setup", settings)
    waiting = {"COMMAND": "mre train wait --run {run}", "GRACE_SECONDS": "60"}
    call(slice_, "launch", settings, **waiting)
    wait_until_listening(slice_)
    call(slice_, "stop", settings, **waiting)
    wait(slice_, settings, "ended with exit code 75")
    # The next attempt starts, and tells of itself.
    call(slice_, "launch", settings)
    wait(slice_, settings, "ended with exit code 0")


def test_a_deaf_command_is_ended_and_is_alone_until_then(slice_, settings):
    call(slice_, "setup", settings)
    call(slice_, "launch", settings, COMMAND="mre train deaf --run {run}")
    wait_until_listening(slice_)
    done = slice_.cloud.pod("launch", **settings)
    assert done.returncode == 70, "two commands at the same chips"
    call(slice_, "stop", settings)
    wait(slice_, settings, "ended with exit code 137")
    assert not slice_.processes(0) and not slice_.processes(1)


def test_logs_and_ends_outlive_the_workers(slice_, settings, tmp_path):
    call(slice_, "setup", settings)
    call(slice_, "launch", settings, COMMAND="mre train 65 --run {run}")
    wait(slice_, settings, "ended with exit code 65")
    logs = tmp_path / "a run; of 'two'.logs"
    (attempt,) = logs.iterdir()
    for number in range(2):
        assert (attempt / f"worker-{number}.log").read_text() == "this is said\n"
        end = json.loads((attempt / f"worker-{number}.json").read_text())
        assert end == {"attempt": attempt.name, "worker": number, "exit_code": 65}


def wait_until_listening(slice_):
    end = time.monotonic() + PATIENCE
    while not all((home / "listens").exists() for home in slice_.homes):
        assert time.monotonic() < end
        time.sleep(0.05)
