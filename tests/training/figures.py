"""Where the reliability tests leave the figures they measured."""

import json
import os
import time
from pathlib import Path

VARIABLE = "MRE_RELIABILITY_FIGURES"


class Figures:
    """Measures one test: `figures = Figures("R4")` at its start, `figures.report(...)` at its end.

    The line is printed, and appended to the file that the environment variable names.
    """

    def __init__(self, promise: str):
        self._promise = promise
        self._start = time.monotonic()

    def report(self, figure: str, *, of: int | None = None) -> None:
        """Says what the test found.

        Args:
            figure: in words, `kills survived 8/8`.
            of: the test is one of so many that all report the same; the table counts them.
        """
        seconds = round(time.monotonic() - self._start, 1)
        found = {"promise": self._promise, "figure": figure, "of": of, "seconds": seconds}
        line = json.dumps(found)
        print(line)
        if path := os.environ.get(VARIABLE):
            with Path(path).open("a") as file:
                file.write(line + "\n")
