"""The tests are worth something: scripts with a fault in them do not pass."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.tpu_scripts.pods import ROOT

pytestmark = pytest.mark.slow

SCENARIOS, SETTINGS, WORKER = "test_scenarios", "test_settings", "test_worker"
MUTANTS = {
    "bad data is tried again": (
        "exit_codes.py",
        "FINAL = (78, 65, ",
        "FINAL = (78, ",
        SCENARIOS,
        "bad_data",
    ),
    "spot machines are paid in full": (
        "queued.py",
        'words.append("--spot")',
        "pass",
        SCENARIOS,
        "happy",
    ),
    "words are split again": ("worker.sh", '  "${words[@]}" &', "  ${words[@]} &", WORKER, "words"),
    "words are not quoted for ssh": (
        "queued.py",
        'shlex.join(["env", *environment, "bash", script, verb, *words])',
        '" ".join(["env", *environment, "bash", script, verb, *words])',
        WORKER,
        "words",
    ),
    "any commit will do": ("settings.py", '"[0-9a-f]{40}"', '".+"', SETTINGS, "commit"),
    "no progress for ever": (
        "supervise.py",
        "self._stalled >= self._settings.max_stalled",
        "self._stalled < 0",
        SCENARIOS,
        "no_progress",
    ),
    "an interrupt deletes the slice": (
        "supervise.py",
        "return 130",
        "code = 130",
        SCENARIOS,
        "interrupted",
    ),
    "a dead slice is waited for": (
        "queued.py",
        '"SUSPENDED": State.LOST',
        '"SUSPENDED": State.WAITING',
        SCENARIOS,
        "preempted_twice",
    ),
    "a worker out of reach is waited for": (
        "supervise.py",
        "attempt.unreachable >= _PATIENCE",
        "attempt.unreachable < 0",
        SCENARIOS,
        "out_of_reach",
    ),
    "a signal does not reach the command": (
        "worker.sh",
        'kill -TERM "$child" 2>/dev/null || true',
        "true",
        WORKER,
        "signal",
    ),
    "a secret is an argument": (
        "queued.py",
        "environment = [*settings.environment,",
        'environment = [*settings.environment, *map("=".join, settings.secrets.items()),',
        WORKER,
        "nowhere",
    ),
    "a secret lies open": ("queued.py", "chmod 600 {folder}/secrets", "true", WORKER, "nowhere"),
    "a second command at the same chips": (
        "worker.sh",
        '! alive || fail "attempt',
        'true || fail "attempt',
        WORKER,
        "deaf",
    ),
    "the cluster restarts a bad configuration": (
        "jobset.py",
        '_rule("final", "FailJobSet", FINAL)',
        '_rule("final", "FailJobSet", (65,))',
        "test_jobset",
        "exit_code",
    ),
}
"""For each: the file, what stands in it, what stands there instead; whose tests, and which of them
notice."""


def run_tests(folder, file, some=""):
    """The fast tests of a file; those whose names have `some` in them."""
    words = ["-q", "-x", "-p", "no:cacheprovider", "-k", some, f"tests/tpu_scripts/{file}.py"]
    path = f"{folder}:{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path, "POD_PATIENCE": "60"},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The scripts and the tests, to be changed."""
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__", "artefacts")
    for name in ("tests", "tpu_scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("file", (SCENARIOS, SETTINGS, WORKER, "test_jobset"))
def test_the_scripts_pass(file, project):
    done = run_tests(project, file)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_does_not(name, project):
    file, right, wrong, tests, some = MUTANTS[name]
    path = project / "tpu_scripts" / file
    text = path.read_text()
    assert text.count(right) == 1, "the script has changed; change the mutant too"
    path.write_text(text.replace(right, wrong))
    try:
        done = run_tests(project, tests, some)
    finally:
        path.write_text(text)
    assert done.returncode == 1, f"survived: {done.stdout[-2000:]}"
    assert " failed" in done.stdout
