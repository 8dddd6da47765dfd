"""Worker processes that end when the work does, however it ends."""

import multiprocessing
import os
import signal
import threading


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
