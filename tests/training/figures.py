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

    def report(self, figure: str) -> None:
        """Args: figure: the figures in words, `kills survived 8/8`."""
        seconds = round(time.monotonic() - self._start, 1)
        line = json.dumps({"promise": self._promise, "figure": figure, "seconds": seconds})
        print(line)
        if path := os.environ.get(VARIABLE):
            with Path(path).open("a") as file:
                file.write(line + "\n")
