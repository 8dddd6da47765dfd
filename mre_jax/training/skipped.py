"""The steps that a run has skipped because they were not finite, and the examples to look at."""

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Bool

from mre_jax.training.run.directory import RunDirectory

Names: TypeAlias = Callable[[int, Sequence[int]], list[str]]
"""The examples at some places of the batch of a step, steps counted from 1, for a person."""

_SHOWN = 5


class SkippedSteps:
    """Counts them over all attempts of a run, and writes each down in its events.

    Attributes:
        count: skipped steps up to the run's state; the same on all hosts.

    Args:
        run: opened.
        names: gives names of examples; asked on the process that writes alone.
        start: steps that are done.
    """

    def __init__(self, run: RunDirectory, names: Names, start: int):
        self._run, self._names = run, names
        rows = _kept(run.events(), start)
        self.count = int(multihost_utils.broadcast_one_to_all(np.int32(len(rows))))
        self._examples = dict.fromkeys(itertools.chain(*(row.get("examples", ()) for row in rows)))

    def add(self, step: int, finite: Bool[np.ndarray, " b"]) -> str:
        """Writes down one more, and says so for every example that was not named before.

        Args:
            step: number of the step, from 1.
            finite: whether the loss of each example of its batch was. If all were, it was a
                gradient, which belongs to no example: the whole batch is named.

        Returns:
            The examples, in words.
        """
        self.count += 1
        if not self._run.writes:
            return "see the first process's log"
        bad = np.flatnonzero(~finite).tolist()
        names = self._names(step, bad or range(len(finite)))
        self._run.event("skipped", step=step, **{"examples" if bad else "batch": names})
        text = _listed(names) if bad else f"a gradient of the batch of {_listed(names)}"
        if not bad or not self._examples.keys() >= set(names):
            print(f"warning: step {step} is skipped, not finite: {text}", file=sys.stderr)
        if bad:
            self._examples |= dict.fromkeys(names)
        return text

    def summary(self, steps: int) -> str:
        """One line about all of them; there must be some.

        Args:
            steps: steps of the whole run.
        """
        text = f"{self.count} of {steps} steps were skipped as not finite"
        if self._examples:
            text += f", with the examples {_listed(list(self._examples))}"
        return f"{text}; events.jsonl names those of each"


def _kept(events: Sequence[Mapping[str, Any]], start: int) -> list[Mapping[str, Any]]:
    """The events "skipped" of the first `start` steps, but for steps that were done again."""
    kept: dict[int, Mapping[str, Any]] = {}
    for row in events:
        if row["event"] == "first_step":
            kept = {step: skipped for step, skipped in kept.items() if step < row["step"]}
        elif row["event"] == "skipped":
            kept[row["step"]] = row
    return [row for step, row in kept.items() if step <= start]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
