"""What makes a run on several machines end, whatever happens to one of them.

Processes of one run wait for each other inside collective operations. One that is gone without
being dead, in an exception or a lock, would keep all the others, and their chips, for ever.
"""

import contextlib
import faulthandler
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax

from mre_jax.errors import ConfigError, MreError

CRASHED = 70
"""Exit code of a crash or a hang: a supervisor may start the run again, a few times."""

HEARTBEAT_SECONDS = 100
SHUTDOWN_SECONDS = 20
START_SECONDS = 300
COORDINATOR_GRACE_SECONDS = 1.0


class JoinError(MreError):
    """This process cannot join the others of its run."""

    exit_code = CRASHED


def start_distributed(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the processes of a run; before anything of JAX is computed. Does nothing if joined.

    Ends the process with `CRASHED` if they do not all arrive within START_SECONDS.

    A single process joins itself, since only joined processes learn of a preemption (SIGTERM)
    in time to save: `Checkpoints.reached_preemption`. From here on SIGTERM does not end the
    process; the run must ask.

    Args:
        coordinator: "host:port" of process 0.
        processes: number of processes.
        process: number of this one, from 0.
            Each of the three defaults to its environment variable (JAX_COORDINATOR_ADDRESS,
            JAX_NUM_PROCESSES, JAX_PROCESS_ID). With none of them given, JAX asks the TPU slice,
            Slurm or MPI that it finds itself in; without such, the process is alone.

    Raises:
        ConfigError: if only some of the three are given, or they do not make sense.
        JoinError: if JAX cannot join them.
    """
    if jax.distributed.is_initialized():
        return
    coordinator = coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
    processes = _number(processes, "JAX_NUM_PROCESSES")
    process = _number(process, "JAX_PROCESS_ID")
    given = [value is not None for value in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise ConfigError(
            "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID belong together; "
            "set all of them or none"
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ConfigError(f"process {process} of {processes} processes: count from 0")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with _in_time(f" as process {process} of {processes} at {coordinator}" if all(given) else ""):
        if all(given) or not _join(None, None, None):
            _join(*((coordinator, processes, process) if all(given) else (_free_port(), 1, 0)))
        # Meets the other processes now, not in the middle of a failure that asks who they are.
        jax.process_count()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Around a command: a failure of one process ends all processes of the run.

    Leaving a joined process in the ordinary way waits for the others, which wait for it. After a
    failure it is therefore left at once, without clean-up; the others notice.

    Raises:
        MreError, SystemExit, KeyboardInterrupt: of the block, if this process is not one of
            several.
        SystemExit: with `CRASHED`, after any other exception of the block in such a process.
    """
    try:
        yield
    except SystemExit:
        raise
    except JoinError as error:
        # JAX, half joined, would wait again for the others to answer anything, or to leave.
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except MreError as error:
        if not _one_of_several():
            raise
        print(f"error: {error}", file=sys.stderr)
        _leave(error.exit_code)
    except KeyboardInterrupt:
        if not _one_of_several():
            raise
        _leave(130)
    except BaseException:
        traceback.print_exc()
        if not _one_of_several():
            raise SystemExit(CRASHED) from None
        faulthandler.dump_traceback(file=2, all_threads=True)
        _leave(CRASHED)


class Watchdog:
    """Ends the process, with the stacks of all threads in its log, when a step takes too long.

    with Watchdog(1800) as watchdog:
        for step in ...:
            watchdog.arm(f"step {step}")
            ...
    """

    def __init__(self, seconds: float, first_seconds: float = 7200.0):
        """Starts with `arm`.

        Args:
            seconds: time that a step may take; 0 switches the watchdog off.
            first_seconds: time that the first step may take, which compiles; at least `seconds`.
        """
        self._seconds = seconds
        self._next = max(seconds, first_seconds)
        self._what = ""
        self._deadline = float("inf")
        self._backstop = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def arm(self, what: str, seconds: float | None = None) -> None:
        """Starts the clock anew.

        Args:
            what: is being done now, for the message.
            seconds: time that it may take, if not as long as a step.
        """
        if not self._seconds:
            return
        allowed = self._next if seconds is None else seconds
        if seconds is None:
            self._next = self._seconds
        self._what, self._deadline = what, time.monotonic() + allowed
        # The thread needs the interpreter's lock. A library that keeps it is ended by the timer
        # in C, which is renewed now and then only, as it starts a thread each time.
        late = self._backstop - self._deadline
        if not _BACKSTOP_SECONDS < late <= 2 * _BACKSTOP_SECONDS:
            # Stderr by its number, since a notebook's `sys.stderr` has none.
            faulthandler.dump_traceback_later(allowed + 2 * _BACKSTOP_SECONDS, exit=True, file=2)
            self._backstop = self._deadline + 2 * _BACKSTOP_SECONDS
        if not self._thread.is_alive():
            self._thread.start()

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, max(0.01, self._deadline - time.monotonic()))):
            if time.monotonic() > self._deadline:
                print(f"error: {self._what} hangs; all stacks follow", file=sys.stderr, flush=True)
                faulthandler.dump_traceback(file=2, all_threads=True)
                _leave(CRASHED)


@contextlib.contextmanager
def watched(what: str, seconds: float, first_seconds: float = 0.0) -> Iterator[None]:
    """Ends the process when the block takes longer than the larger of the two; see `Watchdog`.

    Args:
        what: is done in it.
    """
    with Watchdog(seconds, first_seconds) as watchdog:
        watchdog.arm(what)
        yield


def _join(coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Joins; False if JAX was to find out with whom, and found nothing."""
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            # After `_in_time`: JAX's own timeout aborts, with a stack of its innards.
            initialization_timeout=2 * START_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            # A process that is alone listens to nobody else.
            coordinator_bind_address=coordinator if processes == 1 else None,
        )
    except ValueError as error:
        if coordinator is None and "should be defined" in str(error):
            return False
        raise ConfigError(f"{_place(coordinator)}: {_first_line(error)}") from None
    except RuntimeError as error:
        raise JoinError(f"{_place(coordinator)}: {_first_line(error)}") from None
    return True


@contextlib.contextmanager
def _in_time(what: str) -> Iterator[None]:
    """Ends the process if the block, in which all wait for each other, takes START_SECONDS."""

    def end() -> None:
        print(
            f"error: the processes of the run did not meet in {START_SECONDS} s{what}; see that "
            "all are started, and that the address is process 0's",
            file=sys.stderr,
            flush=True,
        )
        os._exit(CRASHED)

    timer = threading.Timer(START_SECONDS, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _place(coordinator: str | None) -> str:
    return "cannot join the run" + ("" if coordinator is None else f" at {coordinator}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _one_of_several() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


def _leave(code: int) -> NoReturn:
    """Ends the process at once: clean-up would wait for other processes and for saves."""
    if jax.distributed.is_initialized() and jax.process_index() == 0:
        # All others abort when the coordinator is gone. If they fail too, they say so first.
        time.sleep(COORDINATOR_GRACE_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _number(value: int | None, variable: str) -> int | None:
    text = os.environ.get(variable)
    if value is not None or not text:
        return value
    if not text.isdecimal():
        raise ConfigError(f"{variable}={text} is not a number")
    return int(text)


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


_BACKSTOP_SECONDS = 15.0
