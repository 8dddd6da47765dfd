"""The directory of a run, which explains itself whenever the run stops.

    run.json        what the run is: configuration, hashes of its data and initial weights; and for
                    each attempt, that is, start of a process: versions, commit, devices, arguments,
                    and how it ended
    config.yaml     the whole configuration, to read and to start another run with
    events.jsonl    what happened when, to the reason of the end
    metrics.jsonl   losses and speed
    checkpoints/    the state
    model/          the frozen networks, and what else a resume needs of the pretrained model
    validation/     edits
    tensorboard/    the metrics again

Only process 0 writes (the checkpoints, which all write, apart). Until there is a checkpoint the
directory is no particular run's: a start that failed leaves its record to whatever is tried next.
"""

import contextlib
import datetime
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError, MreError
from mre_jax.io.begun_folder import Difference
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.growing_file import GrowingFile, plain, rows_so_far
from mre_jax.training.checkpoints.folder import CheckpointFolder
from mre_jax.training.run.environment import git_id, topology, versions
from mre_jax.training.run.goodput import Goodput, goodput
from mre_jax.training.run.identity import Identity, check_same_meta, check_same_run

RUN, CONFIG, EVENTS, METRICS = "run.json", "config.yaml", "events.jsonl", "metrics.jsonl"
CHECKPOINTS, MODEL = "checkpoints", "model"
VALIDATION, TENSORBOARD = "validation", "tensorboard"

KINDS = (
    "job_start",
    "init_done",
    "restore_done",
    "first_step",
    "step",
    "skipped",
    "save_begin",
    "save_commit",
    "validation",
    "stop",
)
"""Kinds of events, in the order of a run. Those from `restore_done` on carry `step`."""


class RunDirectory:
    """One process's view of the directory.

    Args:
        path: local or `gs://...`.
        writes: whether this is the process that writes, `jax.process_index() == 0`. For the
            others, all that writes does nothing.

    Attributes:
        path: the directory.
        attempt: number of this start of the run, from 1; 0 before `opened`.
        goodput: account of the run's time up to the end of this attempt; None before it, and on
            processes that do not write.

    Example:
        >>> import tempfile
        >>> from mre_jax.training.config import load_config
        >>> from mre_jax.training.run.identity import Identity
        >>> config = load_config("configs/reward_ip2p.yaml")
        >>> run = RunDirectory(tempfile.mkdtemp())
        >>> with run.opened(Identity(config, ("hash of the data",))):
        ...     run.event("init_done")
        >>> [row["event"] for row in run.events()]
        ['job_start', 'init_done', 'stop']
    """

    def __init__(self, path: epath.PathLike, *, writes: bool = True):
        self.path = epath.Path(path)
        self.writes = writes
        self.attempt = 0
        self.goodput: Goodput | None = None
        self._started = time.monotonic()
        self._events: GrowingFile | None = None
        self._stopped = False

    @property
    def checkpoints(self) -> epath.Path:
        """Where the state is saved."""
        return self.path / CHECKPOINTS

    @property
    def model(self) -> epath.Path:
        """Where the first start leaves what later ones need of the pretrained model."""
        return self.path / MODEL

    @property
    def validation(self) -> epath.Path:
        """Where validation edits go; made by `opened`."""
        return self.path / VALIDATION

    @property
    def tensorboard(self) -> epath.Path:
        """Where TensorBoard's files go; made by `opened`."""
        return self.path / TENSORBOARD

    @property
    def metrics(self) -> epath.Path:
        """The file of metrics."""
        return self.path / METRICS

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return bool((self.path / RUN).exists())

    def identity(self) -> Identity:
        """What the run in this directory is.

        Raises:
            DataError: if there is none, or it is not readable.
        """
        return Identity.from_dict(_read_run(self.path), str(self.path / RUN))

    def attempts(self) -> list[dict[str, Any]]:
        """For each start of the run: time, arguments, versions, commit, topology, changes."""
        return list(_read_run(self.path).get("attempts", []))

    def events(self) -> list[dict[str, Any]]:
        """All events so far, of all attempts."""
        return rows_so_far(self.path / EVENTS)

    @contextlib.contextmanager
    def opened(
        self,
        identity: Identity,
        *,
        argv: Sequence[str] | None = None,
        meta: Mapping[str, Any] | None = None,
        allow_config_change: bool = False,
    ) -> Iterator["RunDirectory"]:
        """Begins the run, or goes on with the one that is there, alone in this directory.

        Leaving the block records why: an exception and its exit code, or that all is done, unless
        `stop` did already.

        Args:
            identity: what is asked for.
            argv: words of the command; None takes this process's.
            meta: kept with the newest checkpoint, to compare where there is no run.json.

        Raises:
            ConfigError: if the checkpoints of another run are there (see `check_same_run`), a
                file is in the way, or a permission is missing.
            DataError: if what is there is not readable, checkpoints do not say whose they are, or
                one was finished here and all are gone.
            BusyError: if another process is at this run.
        """
        if not self.writes:
            self._compare(identity, meta, allow_config_change)
            yield self
            return
        self.make_folders()
        with locked(self.path, ".lock"):
            changes = self._compare(identity, meta, allow_config_change)
            self._begin(identity, sys.argv if argv is None else argv, changes)
            with GrowingFile(self.path / EVENTS, lock=False, bucket=True) as self._events:
                self.event("job_start")
                try:
                    yield self
                    self.stop("done", 0)
                except BaseException as error:
                    self.stop(*_reason(error))
                    raise
                finally:
                    self._events = None

    def event(self, kind: str, **values: Any) -> None:
        """Appends an event of one of `KINDS`.

        Besides `values` it holds the wall clock's time, and the seconds since this attempt began
        by a clock that nobody sets.

        Args:
            values: for JSON. `step` is the number of steps done; `blocked` the seconds that saving
                or validating kept the device waiting; `reason` and `exit_code` are those of "stop".

        Raises:
            ValueError: for another kind.
        """
        if kind not in KINDS:
            raise ValueError(f"{kind!r} is none of the events {', '.join(KINDS)}")
        if self._events is None:
            return
        self._events.append(plain({**self._row(kind), **values}))
        if kind in ("save_commit", "stop"):  # what a bucket's reader must not miss
            self._events.flush()

    def stop(self, reason: str, exit_code: int, **values: Any) -> None:
        """The event "stop", kept in run.json too; only the first one of an attempt counts."""
        if self._stopped or self._events is None:
            return
        self._stopped = True
        self._events.flush()
        self.goodput = goodput([*self.events(), self._row("stop")])
        account = self.goodput.to_dict()
        end = {"reason": reason, "exit_code": exit_code, **values}
        self.event("stop", **end, goodput=account)
        record = _read_run(self.path)
        record["attempts"][-1]["end"] = end
        self._write_run(record)

    def make_folders(self) -> None:
        """Makes the directory, on the process that writes.

        Raises:
            ConfigError: if a file is in the way, or a permission is missing.
        """
        if not self.writes:
            return
        try:
            for folder in (self.path, self.validation, self.tensorboard):
                folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise ConfigError(f"--run {self.path}: {error.strerror}") from None

    def _row(self, kind: str) -> dict[str, Any]:
        elapsed = round(time.monotonic() - self._started, 3)
        return {"event": kind, "attempt": self.attempt, "time": _now(), "elapsed": elapsed}

    def _compare(
        self, identity: Identity, meta: Mapping[str, Any] | None, allow: bool
    ) -> list[Difference]:
        """What differs from the run that is here, if any is."""
        bound = self._has_checkpoints()
        if self.exists():
            return check_same_run(self.identity(), identity, allow=allow or not bound)
        if meta is not None:
            return check_same_meta(meta, identity, allow=allow)
        if bound:
            raise DataError(
                f"{self.path}: its {RUN} is gone, and no checkpoint says whose it is; bring one of "
                "them back, or give the run another --run"
            )
        return []

    def _has_checkpoints(self) -> bool:
        """Whether there are some, valid or not.

        Raises:
            DataError: if there are none although one was finished.
        """
        folder = CheckpointFolder(self.checkpoints, commit_file="://" in str(self.path))
        if folder.steps() or folder.damaged():
            return True
        finished = committed_step(self.events())
        if finished is not None:
            raise DataError(
                f"{self.checkpoints}: no checkpoint in it, and {EVENTS} has step {finished}; "
                "not starting from scratch: bring the folder back (a disk that is not mounted?), "
                "or give the run another --run"
            )
        return False

    def _begin(
        self, identity: Identity, argv: Sequence[str], changes: Sequence[Difference]
    ) -> None:
        attempts = self.attempts() if self.exists() else []
        # The events outlive a run.json that was lost.
        self.attempt = max([len(attempts), *(row["attempt"] for row in self.events())]) + 1
        attempts.append(
            {
                "attempt": self.attempt,
                "time": _now(),
                "argv": list(argv),
                "git": git_id(),
                "versions": versions(),
                "topology": topology(),
                "changes": [str(change) for change in changes],
            }
        )
        self._write_run({**identity.to_dict(), "attempts": attempts})
        identity.config.save(self.path / CONFIG)

    def _write_run(self, record: Mapping[str, Any]) -> None:
        write_atomically(self.path / RUN, json.dumps(record, indent=2) + "\n")


def committed_step(events: Sequence[Mapping[str, Any]]) -> int | None:
    """The newest step whose checkpoint was finished; None if there is none."""
    return max((row["step"] for row in events if row["event"] == "save_commit"), default=None)


def _read_run(path: epath.Path) -> dict[str, Any]:
    file = path / RUN
    try:
        record = json.loads(file.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} is no run: it has no {RUN}") from None
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error})") from None
    if not isinstance(record, dict):
        raise DataError(f"{file} is damaged (no object)")
    return record


def _reason(error: BaseException) -> tuple[str, int]:
    if isinstance(error, MreError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130
    if isinstance(error, SystemExit):
        return "exit", error.code if isinstance(error.code, int) else 1
    return f"{type(error).__name__}: {error}".partition("\n")[0], MreError.exit_code


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
