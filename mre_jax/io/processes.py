"""Other processes: workers that end when the work does, and programs that are asked something."""

import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Sequence


def end_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and leave with it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def usable_cores() -> int:
    """Processors that this process may use; all of the machine's where that is unknown."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows lack it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def output_of(command: Sequence[str], seconds: float = 20.0) -> str | None:
    """What a program prints; None if it is not there, fails, or does not end in time.

    Example:
        >>> output_of(["echo", "42"])
        '42\\n'
        >>> output_of(["no-such-program"]) is None
        True
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
