"""Bad settings end in one line that names offender and remedy, before anything is called."""

import dataclasses
import re

import pytest

from tests.tpu_scripts.pods import GKE, ROOT, SETTINGS, Cloud
from tpu_scripts.errors import SettingsError
from tpu_scripts.main import main
from tpu_scripts.settings import Settings, from_values, read_settings
from tpu_scripts.slices import find, known

BAD = {
    "accelerator": ({"ACCELERATOR": "v5litepod-17"}, "v5litepod-16"),
    "topology": ({"ACCELERATOR": "v6e-24"}, "near it are v6e-16, v6e-32, v6e-8"),
    "upper case": ({"NAME": "Reward"}, "NAME='Reward'"),
    "spaces": ({"NAME": "my run"}, "NAME='my run'"),
    "semicolon": ({"NAME": "a;rm -rf /"}, "NAME='a;rm -rf /'"),
    "quote": ({"NAME": "a'b"}, "a'b"),
    "option": ({"NAME": "--quiet"}, "NAME='--quiet'"),
    "long": ({"NAME": "a" * 31}, "30 small letters"),
    "owner": ({"OWNER": "Jane Doe"}, "OWNER='Jane Doe'"),
    "zone": ({"ZONE": "us-west4"}, "ZONE='us-west4'"),
    "project": ({"PROJECT": "My Project"}, "PROJECT='My Project'"),
    "commit": ({"COMMIT": "main"}, "git rev-parse HEAD"),
    "repository": ({"REPOSITORY": "--upload-pack=x"}, "REPOSITORY"),
    "run": ({"RUN": "runs/r"}, "RUN='runs/r'"),
    "bucket": ({"RUN": "gs://bucket"}, "gs://BUCKET/FOLDER"),
    "slash": ({"RUN": "gs://bucket/r/"}, "without the /"),
    "no run": ({"COMMAND": "mre train c.yaml --run x"}, "{run}"),
    "not mre": ({"COMMAND": "rm -rf {run}"}, "a command of mre"),
    "environment": ({"ENVIRONMENT": "-u PATH"}, "'-u' is not NAME=value"),
    "number": ({"SLICES": "two"}, "SLICES='two'"),
    "zero": ({"MAX_ATTEMPTS": "0"}, "MAX_ATTEMPTS=0"),
    "truth": ({"SPOT": "true"}, "yes or no"),
    "engine": ({"ENGINE": "xpk"}, "queued or gke"),
    "unknown": ({"ACCELERATOR_TYPE": "v4-8"}, "is it ACCELERATOR?"),
    "missing": ({"ZONE": ""}, "ZONE is missing"),
    "tag": ({**GKE, "IMAGE": "x/y:latest"}, "sha256"),
    "cluster": ({**GKE, "CLUSTER": ""}, "CLUSTER is missing"),
    "secrets": ({"SECRETS_FILE": "/does/not/exist"}, "cannot be read"),
    "secret": ({"SECRET": "hf_x y"}, "not its value"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_setting_is_named_and_nothing_is_called(name, tmp_path, monkeypatch, capsys):
    settings, named = BAD[name]
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": []})
    for variable, value in cloud.environment.items():
        monkeypatch.setenv(variable, value)
    assert main(["create", "--settings", str(cloud.write(**settings))]) == 78
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1
    assert not cloud.raw_calls()


@pytest.mark.parametrize(
    ("line", "said"),
    [("NAME=a b", ":1: want NAME=value"), ("NAME='a", ":1: No closing"), ("rm x", ":1: want NAME")],
)
def test_a_line_that_is_no_setting_is_named(line, said, tmp_path):
    file = tmp_path / "pod.env"
    file.write_text(line)
    with pytest.raises(SettingsError, match=re.escape(said)):
        read_settings(file)


def test_nobody_logged_in(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": [], "account": ""})
    done = cloud.pod("create")
    assert (done.returncode, len(cloud.raw_calls())) == (78, 1)
    assert "gcloud auth login" in done.stderr


def test_no_gcloud(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": []})
    (cloud.programs / "gcloud").unlink()
    done = cloud.pod("create")
    assert done.returncode == 78
    assert done.stderr == "pod create: gcloud is not there: install it, or put it on PATH\n"


def test_a_dry_run_calls_nothing(tmp_path):
    cloud = Cloud(tmp_path, {"workers": 2, "attempts": []})
    for verb in ("create", "setup", "preflight", "launch", "status", "logs", "stop", "delete"):
        for engine in ({}, GKE):
            done = cloud.pod(verb, "--dry-run", **engine)
            assert done.returncode == 0, done.stderr
            assert "would run: " in done.stderr
    assert not cloud.raw_calls()


def test_the_example_names_every_setting_and_its_default():
    text = (ROOT / "tpu_scripts" / "pod.env.example").read_text()
    values = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert values.keys() == {field.name.upper() for field in dataclasses.fields(Settings)}
    filled = {key: value.strip("'") for key, value in values.items()} | {"COMMIT": "0" * 40}
    settings = from_values(filled)
    for field in dataclasses.fields(Settings):
        optional = field.default not in (dataclasses.MISSING, "", ())
        if optional:
            assert getattr(settings, field.name) == field.default, field.name


def test_slices_have_the_chips_that_their_topology_says():
    for one in known().values():
        sides = [int(side) for side in one.topology.split("x")]
        product = 1
        for side in sides:
            product *= side
        assert product == one.chips == one.hosts * one.chips_per_host
        assert one.chips_per_host in (1, 4, 8)
    assert (find("v5litepod-16").hosts, find("v4-8").hosts, find("v6e-8").hosts) == (4, 1, 1)
    assert find("v5e-16") == find("v5litepod-16")


def test_settings_of_the_tests_are_good():
    assert from_values(SETTINGS).workers == 2
