"""How far a run is, for whoever looks: a bar on a terminal, lines in a log."""

import datetime
import sys
from collections.abc import Mapping

from tqdm import tqdm


class Progress:
    """Shows the steps of one attempt on stderr.

    Args:
        name: name of the run.
        steps: steps of the whole run.
        start: steps done when the attempt begins.
        shown: whether this process shows anything.
    """

    def __init__(self, name: str, steps: int, start: int, *, shown: bool):
        self._steps = steps
        # None: a bar only where stderr is a terminal.
        disable = None if shown else True
        self._bar = tqdm(total=steps, initial=start, unit="step", desc=name, disable=disable)
        self._lines = shown and self._bar.disable

    def step(self) -> None:
        """One more step is done."""
        self._bar.update()

    def row(self, done: int, row: Mapping[str, float], *, skipped: int = 0) -> None:
        """Shows a row of `Meter`.

        Args:
            done: steps that are done.
            skipped: how many of them were.
        """
        count = {"skipped": skipped} if skipped else {}
        self._bar.set_postfix(loss=f"{row['loss']:.4f}", **count)
        if not self._lines:
            return
        line = f"step {done}/{self._steps}: loss {row['loss']:.4f}"
        if "held_out_loss" in row:
            line += f", held out {row['held_out_loss']:.4f}"
        if skipped:
            line += f", {skipped} skipped"
        if "step_seconds" in row:  # not after the first step, which compiled
            left = datetime.timedelta(seconds=round((self._steps - done) * row["step_seconds"]))
            line += f", {row['images_per_second']:.3g} images/s, {left} left"
        print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()
