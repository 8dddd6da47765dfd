"""A slice of TPU VMs as a queued resource, through gcloud."""

import contextlib
import dataclasses
import enum
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from tpu_scripts.calls import Calls
from tpu_scripts.errors import CallError, NotReadyError, PodError
from tpu_scripts.exit_codes import FINAL
from tpu_scripts.settings import Settings

POD = "tpu_scripts/pod"
"""How the user calls these verbs."""

_WORKER = Path(__file__).with_name("worker.sh")
_LINE = re.compile(r"mre-pod worker=(\d+) (.*)")


class State(enum.Enum):
    """Where the slice stands."""

    MISSING = "missing"
    WAITING = "waiting"
    READY = "ready"
    LEAVING = "leaving"
    LOST = "lost"


_STATES = {
    "ACCEPTED": State.WAITING,
    "CREATING": State.WAITING,
    "PROVISIONING": State.WAITING,
    "WAITING_FOR_RESOURCES": State.WAITING,
    "ACTIVE": State.READY,
    "DELETING": State.LEAVING,
    "SUSPENDING": State.LEAVING,
    "FAILED": State.LOST,
    "SUSPENDED": State.LOST,
}


@dataclasses.dataclass(frozen=True)
class Worker:
    """What a worker tells of itself.

    Attributes:
        state: "none" (nothing was launched), "running" or "ended".
        attempt: name of what was launched last.
        exit_code: of what has ended.
    """

    state: str
    attempt: str = ""
    exit_code: int | None = None


class QueuedSlice:
    """The queued resource NAME, with SLICES nodes of one slice each.

    Every method is one step that can be repeated; none waits for a state.
    """

    def __init__(self, settings: Settings, calls: Calls):
        self.settings, self.calls = settings, calls
        self._place = (f"--project={settings.project}", f"--zone={settings.zone}")

    def create(self) -> None:
        """Asks for the slice. One that is there is left alone; one that is dead makes room.

        Raises:
            PodError: for a quota that is used up, with where to look for dead resources.
        """
        state = self.state()
        if state is State.LOST:
            self.delete()
        elif state is not State.MISSING:
            self.calls.say(f"{self.settings.name}: there already, {state.value}")
            return
        settings = self.settings
        words = [
            f"--accelerator-type={settings.slice.accelerator}",
            f"--runtime-version={settings.runtime or settings.slice.runtime}",
            f"--labels=mre-run={settings.name},mre-owner={settings.owner or 'unknown'},"
            f"mre-hours={settings.hours}",
        ]
        if settings.slices == 1:
            words.append(f"--node-id={settings.name}")
        else:
            words += [f"--node-count={settings.slices}", f"--node-prefix={settings.name}"]
        if settings.spot:
            words.append("--spot")
        if settings.service_account:
            words.append(f"--service-account={settings.service_account}")
        if settings.internal_ips:
            words.append("--internal-ips")
        try:
            self._resources("create", settings.name, *words, "--async")
        except CallError as error:
            if "already exists" in error.output.lower():  # by a call whose answer was lost
                return
            if "quota" in error.output.lower():
                raise PodError(
                    f"{error}; dead queued resources count too: gcloud compute tpus "
                    f"queued-resources list {shlex.join(self._place)}"
                ) from None
            raise
        self.calls.say(f"{settings.name}: asked for {settings.slices} x {settings.accelerator}")

    def state(self) -> State:
        """Where the slice stands."""
        try:
            said = self._resources("describe", self.settings.name, "--format=value(state.state)")
        except CallError as error:
            if "not_found" in error.output.lower() or "not found" in error.output.lower():
                return State.MISSING
            raise
        # A state that is new to this table is no reason to delete anything.
        return State.MISSING if self.calls.dry_run else _STATES.get(said.strip(), State.WAITING)

    def setup(self) -> None:
        """Brings the code and the secrets to all workers; repeated, it does nothing."""
        folder = shlex.quote(self._folder)
        self._ssh(f"mkdir -p {folder} && chmod 700 {folder}")
        self._copy(_WORKER, "worker.sh")
        if self.settings.secrets_file:
            # Into a folder that nobody else can enter; gcloud is told a path, never a value.
            self._copy(Path(self.settings.secrets_file), "secrets")
            self._ssh(f"chmod 600 {folder}/secrets")
        self._worker("setup", self.settings.repository, self.settings.commit)

    def preflight(self) -> list[str]:
        """Has all workers run `mre doctor` together, on what COMMAND trains if it does.

        Returns:
            What it prints.

        Raises:
            CallError: for a worker that does not answer, or what another try may find mended.
            NotReadyError: for what none will.
        """
        said = self._worker("preflight", *self._examined())
        if self.calls.dry_run:
            return []
        told = dict(_LINE.findall(said))
        missing = [str(n) for n in range(self.settings.workers) if str(n) not in told]
        if missing:
            raise CallError(f"preflight: no answer of worker {', '.join(missing)}")
        table = [line for line in said.splitlines() if line.strip() and not _LINE.match(line)]
        codes = {int(text.rpartition("=")[2]) for text in told.values()} - {0}
        if not codes:
            return table
        for line in table:
            self.calls.say(line)
        final = next((code for code in FINAL if code in codes), None)
        if final is not None:
            raise NotReadyError("mre doctor: mend what it names as a failure", final)
        raise CallError(f"mre doctor failed (exit {max(codes)}): see what it names", said)

    def launch(self, attempt: str) -> None:
        """Starts the command on all workers that have not started this attempt, detached."""
        self._worker("launch", *self._filled(self.settings.command), attempt=attempt)

    def poll(self) -> dict[int, Worker]:
        """What each worker tells, by its number; without those that cannot be reached."""
        told = {}
        for number, text in _LINE.findall(self._worker("poll", patient=False)):
            row = dict(word.partition("=")[::2] for word in text.split())
            code = int(row["exit_code"]) if "exit_code" in row else None
            told[int(number)] = Worker(row.get("state", "none"), row.get("attempt", ""), code)
        return told

    def stop(self) -> None:
        """Has the command save and end, and ends it if it does not."""
        self._worker("stop", str(self.settings.grace_seconds), patient=False)

    def logs(self, folder: Path) -> None:
        """Copies the logs of all attempts, those of workers that are gone too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.calls.run("gcloud", "storage", "rsync", "--recursive", self.settings.logs, str(folder))

    def delete(self) -> None:
        """Gives the slice back; whatever is in its workers is gone."""
        with self._missing_is_fine():
            self._resources("delete", self.settings.name, "--force", "--quiet")
        self.calls.say(f"{self.settings.name}: deleted")

    def status(self) -> Iterator[str]:
        """Lines on the slice, on each worker, and on what is saved."""
        state = self.state()
        yield f"{self.settings.name}: {state.value}"
        if state is State.READY:
            told = self.poll()
            for number in range(self.settings.workers):
                worker = told.get(number)
                text = "does not answer" if worker is None else worker.state
                if worker is not None and worker.exit_code is not None:
                    text += f" with exit code {worker.exit_code}"
                yield f"worker {number}: {text}"

    @property
    def _folder(self) -> str:
        return f".mre_pod/{self.settings.name}"

    def _filled(self, words: Iterable[str]) -> list[str]:
        """Words of the command, but for the number of the worker, which the worker knows."""
        run, workers = self.settings.run, str(self.settings.workers)
        return [word.replace("{run}", run).replace("{workers}", workers) for word in words]

    def _examined(self) -> list[str]:
        """What `mre doctor` is to look at: a training's configuration, before its options."""
        settings = self.settings
        words = settings.command[2:] if settings.command[1] == "train" else ()
        config = itertools.takewhile(lambda word: not word.startswith("-"), words)
        joined = "--alone" if settings.alone else f"--workers={settings.workers}"
        return [*self._filled(config), f"--run={settings.run}", joined]

    def _worker(self, verb: str, *words: str, attempt: str = "", patient: bool = True) -> str:
        settings = self.settings
        given = {
            "LOGS": settings.logs,
            "ATTEMPT": attempt,
            "WORKERS": settings.workers,
            "HOSTS": settings.slice.hosts,
            "ALONE": settings.slice.host_bounds if settings.alone else "",
            "SECRET": settings.secret,
        }
        environment = [*settings.environment, *(f"{key}={value}" for key, value in given.items())]
        script = f"{self._folder}/worker.sh"
        return self._ssh(
            shlex.join(["env", *environment, "bash", script, verb, *words]), patient=patient
        )

    def _ssh(self, command: str, *, patient: bool = True) -> str:
        """What all workers print to the command, which they run at the same time.

        Args:
            patient: try again if it fails on any worker, and raise in the end; otherwise take what
                those that can be reached have said.
        """
        words = (
            *self._reach("ssh", self.settings.name),
            "--batch-size=all",
            f"--command={command}",
        )
        if patient:
            return self.calls.run(*words)
        return self.calls.attempt(*words)[1]

    def _copy(self, file: Path, name: str) -> None:
        place = f"{self.settings.name}:{self._folder}/{name}"
        self.calls.run(*self._reach("scp", str(file), place), "--batch-size=all")

    def _reach(self, verb: str, *words: str) -> tuple[str, ...]:
        tunnel = ("--tunnel-through-iap",) if self.settings.internal_ips else ()
        everywhere = ("--node=all", "--worker=all", *tunnel)
        return *self._words(verb, *words), *everywhere

    def _resources(self, verb: str, *words: str) -> str:
        return self.calls.run(*self._words(verb, *words))

    def _words(self, verb: str, *words: str) -> tuple[str, ...]:
        return "gcloud", "compute", "tpus", "queued-resources", verb, *words, *self._place

    @contextlib.contextmanager
    def _missing_is_fine(self) -> Iterator[None]:
        try:
            yield
        except CallError as error:
            if not re.search("not.found", error.output, re.IGNORECASE):
                raise
