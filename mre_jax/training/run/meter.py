"""What a run measures: losses, speed and time spent waiting between two rows; a trace."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from mre_jax.training.config import LogConfig
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.step import Metrics


class Meter:
    """Adds up steps until a row is asked for. The first step, which compiles, has no speed.

    Args:
        batch_size: examples of a step, over all hosts.
        step_flops: floating point operations of a step on one device; None if unknown.
        peak_flops: operations a second of a device at best; None if unknown.
    """

    def __init__(self, batch_size: int, step_flops: float | None, peak_flops: float | None):
        self._batch_size, self._step_flops, self._peak = batch_size, step_flops, peak_flops
        self._metrics: list[Metrics] = []
        self._timed = 0
        self._waited = self._paused = 0.0
        self._since: float | None = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Times the wait for data."""
        began = time.monotonic()
        yield
        self._waited += time.monotonic() - began

    def pause(self, seconds: float) -> None:
        """Takes time that no step was running out of the speed: saving and validation."""
        self._paused += seconds

    def add(self, metrics: Metrics) -> None:
        """Adds a step that is done, as arrays of the host."""
        self._metrics.append(metrics)
        if self._since is None:
            self._restart()
        else:
            self._timed += 1

    def row(self) -> dict[str, float]:
        """The row since the last one, which begins the next; to be asked for after a step.

        Losses are means over the steps that changed something, NaN without one; images per second
        are those of all hosts; "data_wait" is the share of the time that no batch was ready.
        """
        finite = [metrics for metrics in self._metrics if not metrics.skipped]
        last = self._metrics[-1]
        row = {
            "loss": _mean([m.loss for m in finite]),
            "grad_norm": _mean([m.grad_norm for m in finite]),
            "param_norm": float(last.param_norm),
            "learning_rate": float(last.learning_rate),
            "skipped": len(self._metrics) - len(finite),
        }
        row |= {name: _mean([m.parts[name] for m in finite]) for name in last.parts}
        row |= self._speed() if self._timed else {}
        row |= by_bin("loss_time", [(m.time_loss, m.time_count) for m in finite])
        row |= by_bin("loss_score", [(m.score_loss, m.score_count) for m in finite])
        self._metrics = []
        self._restart()
        return row

    def _speed(self) -> dict[str, float]:
        assert self._since is not None  # noqa: S101  a step was timed
        seconds = max(time.monotonic() - self._since - self._paused, 1e-9)
        rate = self._timed / seconds
        speed = {
            "images_per_second": rate * self._batch_size,
            "step_seconds": 1 / rate,
            "data_wait": min(self._waited / seconds, 1.0),
        }
        if self._step_flops is not None:
            speed["tflops_per_device"] = rate * self._step_flops / 1e12
            if self._peak is not None:
                speed["share_of_peak"] = rate * self._step_flops / self._peak
        return speed

    def _restart(self) -> None:
        self._timed = 0
        self._waited = self._paused = 0.0
        self._since = time.monotonic()


class Profiler:
    """A trace of the steps that `log.profile_at` asks for, in RUN/tensorboard."""

    def __init__(self, log: LogConfig, run: RunDirectory, start: int):
        """Warns if the run, of which `start` steps are done, is past them."""
        self._first = log.profile_at
        self._last = None if self._first is None else self._first + log.profile_steps - 1
        self._folder = str(run.tensorboard)
        self._running = False
        if self._first is not None and self._first <= start and run.writes:
            print(
                f"warning: log.profile_at={self._first} is past: the run goes on after step "
                f"{start}, without a trace",
                file=sys.stderr,
            )

    def before(self, step: int) -> None:
        """Begins the trace if it begins with this step."""
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, metrics: Metrics) -> None:
        """Ends the trace if it ends with this step, whose metrics are awaited."""
        if self._running and step == self._last:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """Ends the trace if it is still running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else float("nan")


def by_bin(name: str, sums: Sequence[tuple[Any, Any]]) -> dict[str, float]:
    """Means of the bins that have an example, by name and number.

    Args:
        sums: sums and counts of every bin, of each part.
    """
    if not sums:
        return {}
    losses, counts = (np.sum(column, axis=0) for column in zip(*sums, strict=True))
    return {
        f"{name}_{i}": float(loss / count)
        for i, (loss, count) in enumerate(zip(losses, counts, strict=True))
        if count
    }
