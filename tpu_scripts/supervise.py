"""Keeps a run going on slices that come and go, until it is done or there is no use in going on.

    missing -> create -> waiting -> ready -> setup -> launch -> running -> ended
       ^                              |                                     | done, or final: delete
       |                              | lost, or unreachable                | else: launch again
       +------------- delete <--------+-------------------------------------+

Nothing is kept here that the world does not know: a supervisor that is started again finds the
slice, and the attempt that its workers tell of.
"""

import dataclasses
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tpu_scripts.errors import CallError, PodError
from tpu_scripts.exit_codes import CRASH, PREEMPTED, Outcome, outcome
from tpu_scripts.progress import committed_step
from tpu_scripts.queued import POD, QueuedSlice, State, Worker
from tpu_scripts.settings import Settings

_PATIENCE = 5
"""Polls in a row, or steps, that may fail before the slice counts as lost."""


def new_attempt() -> str:
    """A name: no other attempt has it, on this slice or on one that follows, and later ones sort
    behind it."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S.%f}"


class Ended(Exception):
    """The end of supervising.

    Attributes:
        exit_code: that of the run, as `exit_codes` has them.
    """

    def __init__(self, exit_code: int, reason: str):
        super().__init__(reason)
        self.exit_code = exit_code


class Limits:
    """When there is no use in going on.

    Args:
        progress: gives the newest saved step; asked before and after each attempt.
    """

    def __init__(
        self,
        settings: Settings,
        progress: Callable[[], int | None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._settings, self._progress, self._clock = settings, progress, clock
        self._end = clock() + settings.hours * 3600
        self._saved: int | None = None
        self._attempts = self._crashes = self._stalled = 0

    def check_time(self) -> None:
        """Raises Ended when HOURS are over; with 75, since the same again would go on."""
        if self._clock() > self._end:
            raise Ended(PREEMPTED, f"HOURS={self._settings.hours} are over")

    def begin(self) -> int:
        """Counts an attempt; returns its number."""
        if self._attempts >= self._settings.max_attempts:
            raise Ended(CRASH, f"MAX_ATTEMPTS={self._settings.max_attempts} are used up")
        if not self._attempts:
            self._saved = self._progress()
        self._attempts += 1
        return self._attempts

    def end(self, kind: Outcome, code: int) -> None:
        """Counts what an attempt came to.

        Raises:
            Ended: if it was the last.
        """
        if kind is Outcome.DONE:
            raise Ended(0, "done")
        if kind is Outcome.FINAL:
            raise Ended(code, f"exit code {code}: the same again would fail; see the logs")
        saved = self._progress()
        if saved is not None and saved > (-1 if self._saved is None else self._saved):
            self._saved, self._stalled, self._crashes = saved, 0, 0
        elif saved is not None or self._saved is None:  # otherwise it could not be asked for
            self._stalled += 1
        self._crashes += kind is Outcome.CRASHED
        if self._crashes >= self._settings.max_crashes:
            raise Ended(CRASH, f"MAX_CRASHES={self._crashes} without progress; see the logs")
        # Work that saves no checkpoints is bounded by the other limits.
        if self._stalled >= self._settings.max_stalled and not self._settings.alone:
            raise Ended(
                CRASH,
                f"MAX_STALLED={self._stalled} attempts in a row saved nothing after step "
                f"{self._saved or 0}; see the logs, and save more often (checkpoint.every)",
            )


@dataclasses.dataclass
class _Attempt:
    """One start of the command.

    Attributes:
        name: by which workers know it.
        ended: when a poll first saw that a worker has failed.
        unreachable: polls in a row that missed a worker.
    """

    name: str
    ended: float | None = None
    unreachable: int = 0


class Supervisor:
    """Args: `pod`, the slice; `limits`, when to end; `sleep`, between polls."""

    def __init__(
        self,
        pod: QueuedSlice,
        limits: Limits,
        *,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._pod, self._limits, self._sleep, self._clock = pod, limits, sleep, clock
        self._settings = pod.settings
        self._attempt: _Attempt | None = None
        self._state = State.WAITING
        self._ready = False
        self._failures = 0

    def run(self, *, keep: bool = False) -> int:
        """Supervises to the end, then gives the slice back.

        Args:
            keep: leave the slice, which costs money, to be looked at.

        Returns:
            The exit code of the run, or why it was given up.
        """
        try:
            while True:
                self._limits.check_time()
                try:
                    self._step()
                    self._failures = 0
                except CallError as error:
                    self._failed(error)
                self._sleep(self._settings.poll_seconds)
        except Ended as ended:
            self._say(f"{ended} (exit code {ended.exit_code})")
            code = ended.exit_code
        except KeyboardInterrupt:
            self._say(f"interrupted; the slice goes on and costs money: {POD} delete, or go on")
            return 130
        except CallError as error:  # nothing is known of the slice, which may be at work
            self._say(f"{error}; a slice that is there goes on and costs money: {POD} status")
            return error.exit_code
        except PodError as error:
            self._say(str(error))
            code = error.exit_code
            if self._state is not State.READY:
                return code
        if keep:
            self._say(f"the slice is kept and costs money: {POD} delete")
        else:
            if code == PREEMPTED:
                self._pod.stop()
            self._pod.delete()
        return code

    def _step(self) -> None:
        """What is next, as the world stands now."""
        self._state = State.WAITING  # until it is known
        self._state = self._pod.state()
        if self._state is State.MISSING:
            self._lost()
            self._pod.create()
        elif self._state is State.LOST:
            self._say("the slice was taken away")
            self._lost()
            self._pod.delete()
        elif self._state is State.READY:
            self._work()

    def _work(self) -> None:
        told = self._pod.poll()
        if self._attempt is None:
            self._adopt(told)
        if self._attempt is None:
            self._launch()
        else:
            self._watch(self._attempt, told)

    def _adopt(self, told: dict[int, Worker]) -> None:
        """Finds the attempt that an earlier supervisor has started."""
        running = {worker.attempt for worker in told.values() if worker.state == "running"}
        if len(running) == 1:
            self._limits.begin()
            self._ready, self._attempt = True, _Attempt(running.pop())
            self._say(f"attempt {self._attempt.name} is under way")
        elif running:
            self._pod.stop()

    def _launch(self) -> None:
        if not self._ready:
            self._pod.setup()
            for line in self._pod.preflight():
                self._say(line)
            self._ready = True
        number = self._limits.begin()
        attempt = _Attempt(new_attempt())
        self._pod.launch(attempt.name)
        self._attempt = attempt
        self._say(f"attempt {number}: launched {attempt.name}")

    def _watch(self, attempt: _Attempt, told: dict[int, Worker]) -> None:
        mine = {n: worker for n, worker in told.items() if worker.attempt == attempt.name}
        missing = self._settings.workers - len(told)
        attempt.unreachable = attempt.unreachable + 1 if missing else 0
        if attempt.unreachable >= _PATIENCE:
            self._say(f"{missing} of {self._settings.workers} workers cannot be reached")
            self._lost()
            self._pod.delete()
        elif len(mine) < len(told):
            self._pod.launch(attempt.name)  # on those that the first call did not reach
        elif not missing:
            self._judge(attempt, mine)

    def _judge(self, attempt: _Attempt, workers: dict[int, Worker]) -> None:
        codes = [worker.exit_code for worker in workers.values()]
        if None in codes:
            if self._settings.alone or not any(codes):
                return
            # The others notice within the heartbeat, unless they hang.
            if attempt.ended is None:
                attempt.ended = self._clock()
            if self._clock() - attempt.ended < self._settings.grace_seconds:
                return
            self._say("some workers have ended and some have not: stopping those")
            self._pod.stop()
        self._end(*outcome(codes))

    def _failed(self, error: CallError) -> None:
        """A call failed, after all its tries. A slice that none reaches gives way to another."""
        self._failures += 1
        self._say(f"{error} ({self._failures} of {_PATIENCE})")
        if self._failures < _PATIENCE:
            return
        if self._state is not State.READY:
            raise error
        self._failures = 0
        if self._attempt is None:
            self._limits.end(Outcome.CRASHED, CRASH)
        self._lost()
        self._pod.delete()

    def _lost(self) -> None:
        """The slice is gone, and with it what was set up, and the attempt that was under way."""
        self._ready = False
        if self._attempt is not None:
            self._end(Outcome.INFRASTRUCTURE, 255)

    def _end(self, kind: Outcome, code: int) -> None:
        assert self._attempt is not None  # noqa: S101 (its only callers have one)
        self._say(f"attempt {self._attempt.name}: {kind.value} (exit code {code})")
        self._attempt = None
        self._limits.end(kind, code)

    def _say(self, line: str) -> None:
        self._pod.calls.say(f"{datetime.now(UTC):%H:%M:%S} {line}")


def supervise(pod: QueuedSlice, *, keep: bool = False) -> int:
    """Creates, sets up, launches and relaunches until the run is done; returns its exit code."""
    limits = Limits(pod.settings, lambda: committed_step(pod.settings.run, pod.calls))
    return Supervisor(pod, limits).run(keep=keep)
