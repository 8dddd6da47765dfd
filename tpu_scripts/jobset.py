"""The JobSet that runs the command on GKE, rendered from the same settings.

A Job is an attempt on one slice: its first pod that fails ends it. `podFailurePolicy` puts the exit
code into the reason, and the JobSet's rules take it from there, first match first: what the same
again would not mend ends the JobSet; what is nobody's fault restarts it for nothing; whatever else,
a crash as 70, uses up one of MAX_CRASHES restarts.
"""

import json
from typing import Any

from tpu_scripts.exit_codes import FINAL, INFRASTRUCTURE, PREEMPTED
from tpu_scripts.settings import Settings

CONTAINER = "mre"
GRACE_SECONDS = 30
"""What pods get between SIGTERM and SIGKILL; a spot machine gives 15 s at most."""

_NUMBERED = (
    "declare -i index=JOB_INDEX*HOSTS+JOB_COMPLETION_INDEX; "
    r'exec mre "${@//\{worker\}/$index}"'
)
_KEPT_SECONDS = 7 * 24 * 3600


def words(settings: Settings) -> list[str]:
    """The command of a pod. {worker} is left to the pod, which knows it."""
    given = {"{run}": settings.run, "{workers}": str(settings.workers)}
    found = list(settings.command)
    for name, value in given.items():
        found = [word.replace(name, value) for word in found]
    return found


def manifest(settings: Settings) -> dict[str, Any]:
    """The JobSet as kubectl takes it, for one worker a host of each slice."""
    labels = {
        "mre-run": settings.name,
        "mre-owner": settings.owner or "unknown",
        "mre-hours": str(settings.hours),
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": settings.name,
            "namespace": settings.namespace,
            "labels": labels,
            # Each slice of the run gets a node pool to itself.
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "failurePolicy": {
                "maxRestarts": settings.max_crashes,
                "rules": [
                    _rule("final", "FailJobSet", FINAL),
                    _rule("again", "RestartJobSetAndIgnoreMaxRestarts", _AGAIN, disruption=True),
                    {"name": "crash", "action": "RestartJobSet"},
                ],
            },
            "replicatedJobs": [
                {"name": "slice", "replicas": settings.slices, "template": {"spec": _job(settings)}}
            ],
        },
    }


def render(settings: Settings) -> str:
    """`manifest` as JSON, which is YAML too, so that no value needs quoting by hand."""
    return json.dumps(manifest(settings), indent=2) + "\n"


def restarted_codes() -> str:
    """For `gcluster job submit --restart-on-exit-codes`, which fails the job for all others."""
    return ",".join(map(str, sorted({70, *_AGAIN})))


_AGAIN = (PREEMPTED, *INFRASTRUCTURE)


def _rule(
    name: str, action: str, codes: tuple[int, ...], *, disruption: bool = False
) -> dict[str, Any]:
    """A rule for Jobs that failed by one of the exit codes, as the Job's message tells it."""
    patterns = [f"exit code ({'|'.join(map(str, sorted(codes)))}) "]
    if disruption:
        patterns.append("condition DisruptionTarget ")
    return {
        "name": name,
        "action": action,
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": patterns,
    }


def _job(settings: Settings) -> dict[str, Any]:
    hosts = settings.slice.hosts
    return {
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "completions": hosts,
        "parallelism": hosts,
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {
                        "containerName": CONTAINER,
                        "operator": "In",
                        "values": sorted({*FINAL, *_AGAIN}),
                    },
                },
            ]
        },
        "template": {"spec": _pod(settings)},
    }


def _pod(settings: Settings) -> dict[str, Any]:
    slice_ = settings.slice
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": slice_.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": slice_.topology,
        },
        "containers": [_container(settings)],
    }
    if settings.spot:
        spec["nodeSelector"]["cloud.google.com/gke-spot"] = "true"
        spec["tolerations"] = [
            {
                "key": "cloud.google.com/gke-spot",
                "operator": "Equal",
                "value": "true",
                "effect": "NoSchedule",
            }
        ]
    if settings.service_account:
        spec["serviceAccountName"] = settings.service_account
    return spec


def _container(settings: Settings) -> dict[str, Any]:
    chips = {"google.com/tpu": settings.slice.chips_per_host}
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": settings.image,
        "args": [_literal(word) for word in words(settings)[1:]],
        "env": [
            {"name": name, "value": _literal(value)}
            for name, _, value in (entry.partition("=") for entry in settings.environment)
        ],
        "ports": [{"containerPort": 8476}, {"containerPort": 8471}],
        "resources": {"requests": chips, "limits": chips},
        # The message of a pod that failed is the end of its log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if settings.alone:
        place = {"fieldPath": "metadata.annotations['jobset.sigs.k8s.io/job-index']"}
        container["command"] = ["bash", "-c", _NUMBERED, "mre"]
        container["env"] += [
            {"name": "JOB_INDEX", "valueFrom": {"fieldRef": place}},
            {"name": "HOSTS", "value": str(settings.slice.hosts)},
            {"name": "TPU_PROCESS_BOUNDS", "value": "1,1,1"},
            {"name": "TPU_CHIPS_PER_PROCESS_BOUNDS", "value": settings.slice.host_bounds},
        ]
    if settings.secrets_file:
        container["envFrom"] = [{"secretRef": {"name": settings.name}}]
    return container


def _literal(text: str) -> str:
    """The text as it is: Kubernetes would put variables in place of $(NAME)."""
    return text.replace("$(", "$$(")
