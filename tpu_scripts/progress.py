"""What a run has saved, as a supervisor sees it from outside: its finished checkpoints."""

import re
from pathlib import Path

from tpu_scripts.calls import Calls
from tpu_scripts.errors import CallError

_MARKER = "commit_success.txt"


def committed_step(run: str, calls: Calls) -> int | None:
    """The newest step whose checkpoint is finished; None if there is none, or nobody can tell.

    Args:
        run: directory of `mre train`, `gs://...` or on a disk that is shared.
    """
    if not run.startswith("gs://"):
        found = [str(path) for path in Path(run).glob(f"checkpoints/*/{_MARKER}")]
    else:
        try:
            pattern = f"{run}/checkpoints/*/{_MARKER}"
            found = calls.run("gcloud", "storage", "ls", pattern).splitlines()
        except CallError:  # also where nothing is saved yet
            return None
    steps = [re.search(rf"/checkpoints/(\d+)/{_MARKER}$", path) for path in found]
    return max((int(step.group(1)) for step in steps if step), default=None)
