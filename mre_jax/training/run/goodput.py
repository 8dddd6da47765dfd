"""How much of a run's time went into steps that count, from its events alone.

A run that was killed lost the steps since its last checkpoint, the time until somebody started it
again, and the time until it stepped again.
"""

import dataclasses
import datetime
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Event = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Goodput:
    """Seconds of a run from its first start to the last that was heard of it.

    Attributes:
        productive: in steps whose result was kept.
        starting: until an attempt's first step was done: set-up, restoring, compiling.
        blocked: waiting for saves and validation.
        lost: in steps that had to be done again.
        down: with no attempt running. The time between an attempt's last event and its kill is in
            here too, since no event shows it.
        restarts: number of attempts after the first.
    """

    productive: float = 0.0
    starting: float = 0.0
    blocked: float = 0.0
    lost: float = 0.0
    down: float = 0.0
    restarts: int = 0

    @property
    def seconds(self) -> dict[str, float]:
        """By cause."""
        return {name: getattr(self, name) for name in _CAUSES}

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.seconds.values())

    @property
    def share(self) -> float:
        """Productive of all time, 0 to 1."""
        return self.productive / self.total if self.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the productive share, restarts, and seconds by cause."""
        seconds = {name: round(value, 3) for name, value in self.seconds.items()}
        return {"share": round(self.share, 4), "restarts": self.restarts, "seconds": seconds}

    def __str__(self) -> str:
        parts = ", ".join(
            f"{100 * seconds / self.total:.1f} % {name}"
            for name, seconds in self.seconds.items()
            if self.total
        )
        return f"{self.total:.0f} s, {self.restarts} restarts: {parts or 'nothing yet'}"


_CAUSES = ("productive", "starting", "blocked", "lost", "down")
"""Fields of `Goodput` that are seconds."""


def goodput(events: Sequence[Event]) -> Goodput:
    """The account of a run.

    Durations within an attempt are those of its own steady clock. Between attempts there is only
    the wall clock; when that was set back, they count as following each other at once.

    Args:
        events: events of all attempts, as `RunDirectory.events` reads them. `blocked` of saves and
            validation is the time that they kept the device waiting.
    """
    attempts = [list(group) for _, group in itertools.groupby(events, lambda row: row["attempt"])]
    starts = [_first_step(attempt) for attempt in attempts]
    account = Goodput(restarts=max(len(attempts) - 1, 0))
    for number, attempt in enumerate(attempts):
        # The first step that was done again; later attempts may have fallen back further still.
        kept = min((start for start in starts[number + 1 :] if start is not None), default=None)
        account = _sum(account, _attempt(attempt, kept))
        if number:
            gap = _wall(attempt[0]) - _wall(attempts[number - 1][-1])
            # An attempt's clock starts before its first event.
            gap -= attempt[0]["elapsed"]
            account = dataclasses.replace(account, down=account.down + max(0.0, gap))
    return account


def _attempt(events: Sequence[Event], kept: int | None) -> Goodput:
    """Of one attempt, of whose steps those up to `kept` count; None is all."""
    end = events[-1]["elapsed"]
    first = next((row for row in events if row["event"] == "first_step"), None)
    if first is None:
        return Goodput(starting=end)
    stepping = [row for row in events if row["elapsed"] >= first["elapsed"]]
    cut = end if kept is None else min(end, _when(stepping, kept))
    blocked = sum(row.get("blocked", 0.0) for row in stepping if row["elapsed"] <= cut)
    return Goodput(
        productive=max(0.0, cut - first["elapsed"] - blocked),
        starting=first["elapsed"],
        blocked=blocked,
        lost=end - cut,
    )


def _when(events: Sequence[Event], step: int) -> float:
    """The time at which `step` steps were done, between the two nearest events that have a step."""
    times = {row["step"]: row["elapsed"] for row in reversed(events) if "step" in row}
    steps = sorted(times)
    if step > steps[-1]:
        return float(events[-1]["elapsed"])
    return float(np.interp(step, steps, [times[s] for s in steps]))


def _first_step(events: Sequence[Event]) -> int | None:
    """Steps that were done before this attempt began to step; None if it never did."""
    return next((row["step"] - 1 for row in events if row["event"] == "first_step"), None)


def _wall(event: Event) -> float:
    return datetime.datetime.fromisoformat(event["time"]).timestamp()


def _sum(one: Goodput, two: Goodput) -> Goodput:
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(two), strict=True)
    return Goodput(*(a + b for a, b in pairs))
