"""The JobSet is valid without a cluster, and restarts what the exit codes say."""

import json
import re

import kubernetes_validate
import pytest

from tests.tpu_scripts.pods import COMMAND, GKE, SETTINGS, Cloud
from tests.tpu_scripts.restarts import action
from tpu_scripts.jobset import manifest, render
from tpu_scripts.settings import from_values

JOBSET = {
    "apiVersion": "jobset.x-k8s.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {"name", "namespace", "labels", "annotations"},
    "spec": {"ttlSecondsAfterFinished", "failurePolicy", "replicatedJobs"},
}
"""What JobSet's own layer has; all below it is Kubernetes's, whose schema is at hand."""
ACTIONS = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
VARIANTS = {
    "plain": {},
    "slices": {"SLICES": "3", "ACCELERATOR": "v5litepod-16"},
    "on demand": {"SPOT": "no", "SERVICE_ACCOUNT": "trainer"},
    "one host": {"ACCELERATOR": "v6e-8"},
    "shards": {
        "COMMAND": "mre sample i.jsonl --out {run} --shard {worker}/{workers}",
        "SLICES": "2",
    },
    "odd words": {
        "COMMAND": """mre train "it's; $(X) `y`" 'a "b"' --run {run}""",
        "ENVIRONMENT": "'A=b c;d' B=$(A)",
    },
}


def settings_of(variant, **more):
    return from_values(SETTINGS | GKE | VARIANTS[variant] | more)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_manifest_is_valid(variant):
    made = json.loads(render(settings_of(variant)))
    assert (made["apiVersion"], made["kind"]) == (JOBSET["apiVersion"], JOBSET["kind"])
    assert made.keys() == JOBSET.keys()
    for part in ("metadata", "spec"):
        assert made[part].keys() == JOBSET[part]
    policy = made["spec"]["failurePolicy"]
    assert policy.keys() == {"maxRestarts", "rules"}
    for rule in policy["rules"]:
        known = {"name", "action", "onJobFailureReasons", "onJobFailureMessagePatterns"}
        assert {"name", "action"} <= rule.keys() <= known
        assert rule["action"] in ACTIONS
        assert re.fullmatch(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"])
        for pattern in rule.get("onJobFailureMessagePatterns", []):
            re.compile(pattern)
    (job,) = made["spec"]["replicatedJobs"]
    assert job.keys() == {"name", "replicas", "template"}
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, **job["template"]}
    kubernetes_validate.validate(whole, "1.37", strict=True)
    # The longest name of a pod, which is also one of DNS.
    pods = f"{made['metadata']['name']}-{job['name']}-{job['replicas']}-255-abcde"
    assert len(pods) <= 63


def test_the_words_reach_the_container_as_they_are():
    made = manifest(settings_of("odd words"))
    (container,) = pod_of(made)["containers"]
    # Kubernetes writes $$( as $(, and puts a variable in place of $(NAME).
    assert container["args"] == ["train", "it's; $$(X) `y`", 'a "b"', "--run", SETTINGS["RUN"]]
    assert container["env"] == [{"name": "A", "value": "b c;d"}, {"name": "B", "value": "$$(A)"}]


def test_a_slice_is_one_job_of_a_worker_a_host():
    made = manifest(settings_of("slices"))
    (job,) = made["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (job["replicas"], spec["completions"], spec["parallelism"]) == (3, 4, 4)
    (container,) = pod_of(made)["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    chosen = pod_of(made)["nodeSelector"]
    assert chosen["cloud.google.com/gke-tpu-accelerator"] == "tpu-v5-lite-podslice"
    assert chosen["cloud.google.com/gke-tpu-topology"] == "4x4"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        (65, "FailJobSet"),
        (78, "FailJobSet"),
        (2, "FailJobSet"),
        (127, "FailJobSet"),
        (75, "RestartJobSetAndIgnoreMaxRestarts"),
        (134, "RestartJobSetAndIgnoreMaxRestarts"),
        (137, "RestartJobSetAndIgnoreMaxRestarts"),
        (143, "RestartJobSetAndIgnoreMaxRestarts"),
        (255, "RestartJobSetAndIgnoreMaxRestarts"),
        (70, "RestartJobSet"),
        (1, "RestartJobSet"),
        (6, "RestartJobSet"),  # of which 65 begins
    ],
)
def test_each_exit_code_does_what_the_contract_says(code, wanted):
    assert action(manifest(settings_of("plain")), code) == wanted


def test_a_machine_that_is_taken_away_costs_no_restart():
    made = manifest(settings_of("plain"))
    assert action(made, 137, disrupted=True) == "RestartJobSetAndIgnoreMaxRestarts"
    assert made["spec"]["failurePolicy"]["maxRestarts"] == 3


def test_secrets_come_from_the_clusters_own(tmp_path):
    file = tmp_path / "secrets"
    file.write_text("OPENAI_API_KEY=canary-0123456789\n")
    file.chmod(0o600)
    settings = settings_of("plain", SECRETS_FILE=str(file))
    (container,) = pod_of(manifest(settings))["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "reward-1"}}]
    assert "canary" not in render(settings)


def test_render_prints_it(tmp_path):
    done = Cloud(tmp_path, {}).pod("render", **GKE)
    assert json.loads(done.stdout) == manifest(settings_of("plain"))
    assert COMMAND.split()[1] in done.stdout


def pod_of(made):
    return made["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
