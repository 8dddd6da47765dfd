"""The same verbs on GKE: node pools, and a JobSet that restarts itself."""

import json
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tpu_scripts import jobset
from tpu_scripts.calls import Calls
from tpu_scripts.errors import CallError, PodError
from tpu_scripts.exit_codes import CRASH, PREEMPTED, outcome
from tpu_scripts.settings import Settings

POD = "tpu_scripts/pod"
_PATIENCE = 5
"""Calls in a row that may fail before nothing is known any more."""
_RULES = "jobset.spec.failurePolicy.rules.onJobFailureMessagePatterns"


class GkeSlice:
    """The node pools NAME-0, NAME-1, ... of CLUSTER, and the JobSet NAME.

    Every method is one step that can be repeated; none waits for a state but `create`.
    """

    def __init__(self, settings: Settings, calls: Calls):
        self.settings, self.calls = settings, calls

    def create(self) -> None:
        """Adds a node pool for each slice; on spot machines they come when there are some."""
        settings, slice_ = self.settings, self.settings.slice
        there = self._gcloud("list", "--format=value(name)").split()
        for number in range(settings.slices):
            name = f"{settings.name}-{number}"
            if name in there:
                self.calls.say(f"{name}: there already")
                continue
            words = [
                f"--machine-type={slice_.gke_machine}",
                f"--num-nodes={slice_.hosts}",
                f"--node-locations={settings.zone}",
                f"--node-labels=mre-run={settings.name},mre-owner={settings.owner or 'unknown'}",
            ]
            if slice_.hosts > 1:
                words.append(f"--tpu-topology={slice_.topology}")
            if settings.spot:
                words.append("--spot")
            self._gcloud("create", name, *words)

    def setup(self) -> None:
        """Meets the cluster and brings the secrets.

        Raises:
            PodError: if the cluster's JobSet does not know the rules of the exit codes.
        """
        settings = self.settings
        self.calls.run(
            *("gcloud", "container", "clusters", "get-credentials", settings.cluster),
            *(f"--location={settings.location}", f"--project={settings.project}"),
        )
        if settings.submit == "kubectl":
            try:
                self._kubectl("explain", _RULES)
            except CallError as error:
                raise PodError(
                    f"{error}; the cluster needs JobSet with {_RULES}: install a newer release"
                ) from None
        if settings.secrets_file:
            made = self._kubectl(
                *("create", "secret", "generic", settings.name),
                f"--from-env-file={settings.secrets_file}",  # a path: no value becomes an argument
                *("--dry-run=client", "--output=json"),
            )
            self._kubectl("apply", "--filename=-", stdin=made)

    def preflight(self) -> list[str]:
        """Sees that there are enough nodes, and that this user may start a JobSet on them."""
        slice_ = self.settings.slice
        try:
            self._kubectl("auth", "can-i", "create", "jobsets.jobset.x-k8s.io")
        except CallError as error:
            raise PodError(f"{error}; this account may not create JobSets in the cluster") from None
        chosen = (
            f"cloud.google.com/gke-tpu-accelerator={slice_.gke_accelerator},"
            f"cloud.google.com/gke-tpu-topology={slice_.topology}"
        )
        nodes = self._kubectl("get", "nodes", f"--selector={chosen}", "--output=name").split()
        if len(nodes) < self.settings.workers and not self.calls.dry_run:
            raise PodError(
                f"{len(nodes)} nodes of {slice_.accelerator}, and {self.settings.workers} are "
                f"needed: {POD} create, or wait for them"
            )
        return [f"{len(nodes)} nodes of {slice_.accelerator}"]

    def launch(self) -> None:
        """Submits the JobSet; leaves one alone that is under way, and replaces one that ended."""
        if _ended(self._jobset()):
            self.stop()
        if self.settings.submit == "gcluster":
            self.calls.run(*self._gcluster())
        else:
            self._kubectl("apply", "--filename=-", stdin=jobset.render(self.settings))

    def status(self) -> Iterator[str]:
        """A line on the JobSet, and one on each pod."""
        found = self._jobset()
        yield f"{self.settings.name}: {_told(found)}"
        yield from self._kubectl("get", "pods", self._mine, "--no-headers").splitlines()

    def logs(self, folder: Path) -> None:
        """Writes the logs of the pods that there are; those of older ones are in Cloud Logging."""
        for pod in self._kubectl("get", "pods", self._mine, "--output=name").split():
            name = folder / f"{pod.rpartition('/')[2]}.log"
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_text(self.calls.redacted(self._kubectl("logs", pod, "--timestamps")))

    def stop(self) -> None:
        """Deletes the JobSet; its pods get SIGTERM, and save."""
        self._kubectl("delete", "jobset", self.settings.name, "--ignore-not-found", "--wait=true")

    def delete(self) -> None:
        """Deletes the JobSet, its secret and its node pools."""
        self.stop()
        self._kubectl("delete", "secret", self.settings.name, "--ignore-not-found")
        there = self._gcloud("list", "--format=value(name)").split()
        for number in range(self.settings.slices):
            name = f"{self.settings.name}-{number}"
            if name in there:
                self._gcloud("delete", name, "--quiet")

    def supervise(
        self,
        progress: Callable[[], int | None],
        *,
        keep: bool = False,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> int:
        """Waits for the JobSet, which restarts itself, and stops it if that is of no use.

        Args:
            progress: gives the newest saved step; asked at each restart.
            keep: leave the node pools, which cost money.

        Returns:
            The exit code of the run, or why it was given up.
        """
        self.create()
        self.setup()
        self.launch()
        end = clock() + self.settings.hours * 3600
        watch, failures = _Watch(self.settings, progress), 0
        try:
            while True:
                try:
                    found = self._jobset()
                    failures = 0
                    if (code := self._code(found)) is None:
                        code = watch.code(found, late=clock() > end)
                    if code is not None:
                        break
                except CallError as error:
                    failures += 1
                    if failures >= _PATIENCE:
                        raise
                    self.calls.say(f"{error} ({failures} of {_PATIENCE})")
                sleep(self.settings.poll_seconds)
        except KeyboardInterrupt:
            self.calls.say(f"interrupted; the JobSet goes on and costs money: {POD} delete")
            return 130
        self.calls.say(f"{self.settings.name}: ended with exit code {code}; {_told(found)}")
        if not keep:
            self.delete()
        return code

    def _code(self, found: dict[str, Any]) -> int | None:
        """The exit code of a JobSet that has ended."""
        if not found:
            raise PodError(f"{self.settings.name}: somebody has deleted the JobSet")
        ended = _ended(found)
        if ended == "Failed":
            return self._exit_code()
        return None if ended is None else 0

    @property
    def _mine(self) -> str:
        return f"--selector=jobset.sigs.k8s.io/jobset-name={self.settings.name}"

    def _jobset(self) -> dict[str, Any]:
        words = ("get", "jobset", self.settings.name, "--ignore-not-found", "--output=json")
        said = self._kubectl(*words).strip()
        return json.loads(said) if said else {}

    def _exit_code(self) -> int:
        """Of the pods of the last attempt."""
        each = "{.status.containerStatuses[0].state.terminated.exitCode}"
        path = "{range .items[*]}" + each + "{' '}{end}"
        said = self._kubectl("get", "pods", self._mine, f"--output=jsonpath={path}")
        return outcome([int(code) for code in said.split()] or [None])[1]

    def _gcluster(self) -> tuple[str, ...]:
        settings = self.settings
        environment = [word for entry in settings.environment for word in ("--env", entry)]
        return (
            *("gcluster", "job", "submit"),
            *("--project", settings.project, "--location", settings.location),
            *("--cluster", settings.cluster, "--gke-namespace", settings.namespace),
            *("--name", settings.name, "--image", settings.image),
            *("--compute-type", settings.slice.accelerator),
            *("--topology", settings.slice.topology, "--num-slices", str(settings.slices)),
            *("--restarts", str(settings.max_attempts)),
            *("--restart-on-exit-codes", jobset.restarted_codes()),
            *("--grace-period", f"{jobset.GRACE_SECONDS}s"),
            *environment,
            *("--command", shlex.join(jobset.words(settings))),
        )

    def _gcloud(self, verb: str, *words: str) -> str:
        settings = self.settings
        place = (
            f"--project={settings.project}",
            f"--cluster={settings.cluster}",
            f"--location={settings.location}",
        )
        return self.calls.run("gcloud", "container", "node-pools", verb, *words, *place)

    def _kubectl(self, *words: str, stdin: str | None = None) -> str:
        settings = self.settings
        context = f"gke_{settings.project}_{settings.location}_{settings.cluster}"
        place = (f"--context={context}", f"--namespace={settings.namespace}")
        return self.calls.run("kubectl", *place, *words, stdin=stdin)


class _Watch:
    """Counts the restarts of a JobSet that saved nothing new."""

    def __init__(self, settings: Settings, progress: Callable[[], int | None]):
        self._settings, self._progress = settings, progress
        self._restarts = self._stalled = 0
        self._saved = progress()

    def code(self, found: dict[str, Any], *, late: bool) -> int | None:
        """Why to give up, as an exit code; None is to go on."""
        restarts = found.get("status", {}).get("restarts", 0)
        if restarts != self._restarts:
            saved = self._progress()
            self._stalled = self._stalled + 1 if saved == self._saved else 0
            self._restarts, self._saved = restarts, saved
        stalled = self._stalled >= self._settings.max_stalled and not self._settings.alone
        if stalled or restarts >= self._settings.max_attempts:
            return CRASH
        return PREEMPTED if late else None


def _ended(found: dict[str, Any]) -> str | None:
    """The condition that ends a JobSet, if it has ended."""
    for condition in found.get("status", {}).get("conditions", []):
        if condition["type"] in ("Completed", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return None


def _told(found: dict[str, Any]) -> str:
    restarts = found.get("status", {}).get("restarts", 0)
    return f"{_ended(found) or 'running'}, {restarts} restarts"
