"""What Kubernetes and JobSet do when a pod of a manifest fails, as their documents say."""

import re
from typing import Any


def action(manifest: dict[str, Any], code: int, *, disrupted: bool = False) -> str:
    """What becomes of the JobSet: the action of the first rule that fits.

    Args:
        code: exit code of the pod that failed first.
        disrupted: its machine was taken away.
    """
    spec = manifest["spec"]
    reason, message = _failure(spec["replicatedJobs"][0]["template"]["spec"], code, disrupted)
    for rule in spec["failurePolicy"]["rules"]:
        reasons = rule.get("onJobFailureReasons", [])
        patterns = rule.get("onJobFailureMessagePatterns", [])
        if reasons and reason not in reasons:
            continue
        if patterns and not any(re.search(pattern, message) for pattern in patterns):
            continue
        return str(rule["action"])
    return "RestartJobSet"


def _failure(job: dict[str, Any], code: int, disrupted: bool) -> tuple[str, str]:
    """Reason and message of the Job's failure."""
    for number, rule in enumerate(job["podFailurePolicy"]["rules"]):
        matching = f"matching FailJob rule at index {number}"
        codes = rule.get("onExitCodes")
        if codes and code in codes["values"]:
            container = f"Container {codes['containerName']} for pod default/x"
            return "PodFailurePolicy", f"{container} failed with exit code {code} {matching}"
        if disrupted and "onPodConditions" in rule:
            said = f"Pod default/x has condition DisruptionTarget {matching}"
            return "PodFailurePolicy", said
    return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
