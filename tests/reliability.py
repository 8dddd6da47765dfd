"""Runs the tests of what a run survives, and prints their figures as a Markdown table.

    python -m tests.reliability [--quick] [further arguments of pytest]

`--quick` leaves out the tests that start processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.training.figures import VARIABLE

PROMISES = {
    "R1": "A run killed at any moment ends in the bits of one never killed",
    "R2": "On other devices: the same state, data and noise, losses within 1e-6",
    "R3": "No kill leaves a folder whose newest finished checkpoint cannot be restored",
    "R4": "A damaged checkpoint is named and skipped, never trained on",
    "R5": "A save that failed makes the run fail, and is never the newest checkpoint",
    "R6": "SIGTERM to any process: all save the same step and exit 75",
    "R7": "A failure of one process ends the whole run in bounded time, with stacks",
    "R8": "A batch is a function of seed and step",
    "R9": "No example disappears silently; what is damaged is named",
    "R10": "A step that is not finite changes nothing; too many in a row exit 65",
    "R11": "A device whose copy drifts by one unit in the last place stops the run",
    "R13": "No answer of a judge is lost or paid for twice, whatever the server does",
    "R15": "Resuming with another configuration, data set or model is refused by key",
    "R16": "The newest, every so many and pinned checkpoints stay, whatever is killed",
    "R18": "The pods' scripts carry a run through kills and preemptions to the same bits",
    "R19": "Every run directory explains itself, whenever the run stopped",
}
FILES = (
    "tests/training/test_resume.py",
    "tests/training/test_chaos.py",
    "tests/training/test_faults.py",
    "tests/training/test_step.py",
    "tests/training/test_train.py",
    "tests/training/checkpoints/test_checkpoint.py",
    "tests/training/checkpoints/test_damage.py",
    "tests/training/checkpoints/test_topology.py",
    "tests/training/checkpoints/test_replicas.py",
    "tests/judges/openai/test_judge.py",
    "tests/judges/openai/test_batch.py",
    "tests/tpu_scripts/test_rehearsal.py",
)
RELEVANT = "test_r or TestR"
"""Names of the tests that are about a promise."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns pytest's exit code, or 1 if a promise has no figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    options, more = parser.parse_known_args(arguments)
    chosen = "not slow" if options.quick else "slow or not slow"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "figures.jsonl")
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", chosen, "-k", RELEVANT, *more, *FILES],
            env=os.environ | {VARIABLE: str(file)},
            stdout=sys.stderr,
        )
        lines = file.read_text().splitlines() if file.exists() else []
    figures = [json.loads(line) for line in lines]
    print(table(figures))
    print(f"\n{time.monotonic() - began:.0f} s in all on {os.cpu_count()} cores.")
    missing = PROMISES.keys() - {figure["promise"] for figure in figures}
    if missing and not options.quick:
        print(f"no figure for {', '.join(sorted(missing))}", file=sys.stderr)
        return done.returncode or 1
    return done.returncode


def table(figures: Iterable[dict]) -> str:
    """A row for each figure, in the order of the promises, each of which is told once."""
    rows = ["| | promise | measured | seconds |", "|---|---|---|---:|"]
    found = list(_counted(figures))
    for name, promise in PROMISES.items():
        mine = [figure for figure in found if figure["promise"] == name]
        for index, figure in enumerate(mine):
            said = (name, promise) if index == 0 else ("", "")
            rows.append(f"| {said[0]} | {said[1]} | {figure['figure']} | {figure['seconds']:.1f} |")
    return "\n".join(rows)


def _counted(figures: Iterable[dict]) -> Iterator[dict]:
    """Those that tests share as one, with how many of them reported it."""
    shared: dict[tuple, list[dict]] = {}
    for figure in figures:
        if figure["of"] is None:
            yield figure
        else:
            key = (figure["promise"], figure["figure"], figure["of"])
            shared.setdefault(key, []).append(figure)
    for (promise, text, of), each in shared.items():
        seconds = sum(figure["seconds"] for figure in each)
        yield {"promise": promise, "figure": f"{text} {len(each)}/{of}", "seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
