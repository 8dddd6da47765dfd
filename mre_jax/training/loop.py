"""The loop of a run: read, step, log, save, validate, and stop for a reason that is written down.

The device is kept busy: a step is dispatched while the one before it runs, whose metrics are then
looked at. Nothing in the loop draws random numbers; a run that is resumed at step s
does what it would have done.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import UInt8

from mre_jax.data.batches.batch import Batch
from mre_jax.errors import DataError, MreError
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.checkpoints.replicas import compare_replicas
from mre_jax.training.config import TrainConfig
from mre_jax.training.inputs import Frozen
from mre_jax.training.liveness import Watchdog
from mre_jax.training.parallel import Layout
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.meter import Meter, Profiler
from mre_jax.training.run.metrics_log import MetricsLog
from mre_jax.training.run.progress import Progress
from mre_jax.training.skipped import SkippedSteps
from mre_jax.training.state import State
from mre_jax.training.step import Metrics, Step

Batches = Callable[[int, int], Iterator[Batch]]
"""Global batches of steps start .. stop-1."""

Validate = Callable[[State, int], UInt8[np.ndarray, "H W 3"] | None]
"""Edits with a state after so many steps; a sheet of them, or None on processes that do not."""

HeldOut = Callable[[State], dict[str, float]]
"""Numbers for the log by name, of a state; the same on all processes."""


class Preempted(MreError):
    """The run was stopped by a signal, and saved; it may be started again at any time."""

    exit_code = 75


class Loop:
    """One attempt at a run.

    Args:
        config: configuration of the run.
        step: jitted step, as `make_step` makes it.
        frozen: arrays that the step reads and does not change.
        batches: gives the batches from any step on.
        layout: where arrays live.
        run: directory of the run, opened.
        checkpoints: where states are saved.
        meta: what is kept with every checkpoint.
        meter: measures speed and losses.
        log: gets rows of metrics; None on processes that do not write.
        skipped: steps that earlier attempts skipped, to be added to.
        validate: makes edits with a state; None is never.
        held_out: measures a state on examples that are not trained on; likewise.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        step: Step,
        frozen: Frozen,
        batches: Batches,
        layout: Layout,
        run: RunDirectory,
        checkpoints: Checkpoints,
        meta: dict[str, Any],
        meter: Meter,
        log: MetricsLog | None,
        skipped: SkippedSteps,
        validate: Validate | None = None,
        held_out: HeldOut | None = None,
    ):
        self._config, self._step, self._frozen = config, step, frozen
        self._batches, self._layout, self._run = batches, layout, run
        self._checkpoints, self._meta, self._meter = checkpoints, meta, meter
        self._log, self._skipped, self._validate = log, skipped, validate
        self._held_out = held_out
        self._measured: dict[int, dict[str, float]] = {}
        self._begun: int | None = None
        self._saving: tuple[int, float] | None = None

    def __call__(self, state: State, start: int) -> State:
        """Trains from step `start` to the last, and saves it.

        Args:
            state: is used up.
            start: steps that are in it.

        Raises:
            Preempted: after SIGTERM, with the state saved.
            DataError: after too many steps in a row that were not finite, or if replicas differ.
            SaveError: if a checkpoint could not be written.
        """
        name, steps = self._config.name, self._config.steps
        shown = Progress(name, steps, start, shown=self._log is not None)
        with (
            Watchdog(self._config.guard.watchdog_seconds) as watchdog,
            jax.set_mesh(self._layout.mesh),
            contextlib.closing(shown) as progress,
            contextlib.closing(Profiler(self._config.log, self._run, start)) as profiler,
            self._saved_on_failure(),
        ):
            watchdog.arm(f"step {start + 1}")
            before: Metrics | None = None
            batches = self._batches(start, steps)
            for done in range(start + 1, steps + 1):
                batch = self._read(batches)
                profiler.before(done)
                state, metrics = self._step(state, self._frozen, batch)
                if before is not None:
                    self._log_step(before, done - 1, start, progress)
                before = metrics
                profiler.after(done, metrics)
                self._between(state, metrics, done, watchdog)
                watchdog.arm(f"step {done + 1}")
            if before is not None:
                self._log_step(before, steps, start, progress)
            watchdog.arm("the last checkpoint")
            self._save_whole(state, steps)
        return state

    def _read(self, batches: Iterator[Batch]) -> Batch:
        with self._meter.waiting():
            return next(batches)

    def _log_step(self, metrics: Metrics, done: int, start: int, progress: Progress) -> None:
        """Reads the metrics of a step, which waits for it."""
        host = jax.tree.map(np.asarray, metrics)
        self._meter.add(host)
        if done == start + 1:
            self._run.event("first_step", step=done)
        limit = self._config.guard.non_finite_limit
        blamed = self._skipped.add(done, host.finite) if host.skipped else ""
        if host.skipped >= limit:
            raise DataError(
                f"step {done}: loss or gradient was not finite {limit} times in a row "
                f"(guard.non_finite_limit), the last time in {blamed}; nothing was changed since: "
                "look at data and learning rate, and resume from the last checkpoint"
            )
        progress.step()
        measured = self._measured.pop(done, {})
        if done % self._config.log.every == 0 or done == self._config.steps or measured:
            row = self._meter.row() | measured
            progress.row(done, row, skipped=self._skipped.count)
            self._run.event("step", step=done)
            self._note_commit()
            if self._log is not None:
                self._log.write(done, row)

    def _between(self, state: State, metrics: Metrics, done: int, watchdog: Watchdog) -> None:
        """What is due between two steps."""
        guard, validation = self._config.guard, self._config.validation
        if guard.compare_replicas_every and done % guard.compare_replicas_every == 0:
            compare_replicas(state, done)
        if self._checkpoints.due(done) and done < self._config.steps and not metrics.skipped:
            self._save(state, done)
        if self._held_out is not None and done % validation.loss_every == 0:
            with self._aside("held-out loss", done, watchdog):
                self._measured[done] = self._held_out(state)
        if self._validate is not None and done % validation.every == 0:
            with self._aside("validation", done, watchdog):
                sheet = self._validate(state, done)
                if sheet is not None and self._log is not None:
                    self._log.image(done, "validation", sheet)
        if self._checkpoints.reached_preemption(done):
            self._save_whole(state, done)
            raise Preempted(f"stopped by a signal; saved step {done}: run the same command again")

    @contextlib.contextmanager
    def _aside(self, what: str, done: int, watchdog: Watchdog) -> Iterator[None]:
        """Around what is neither a step nor a save: its time is no step's."""
        watchdog.arm(f"{what} after step {done}", 10 * self._config.guard.watchdog_seconds)
        began = time.monotonic()
        yield
        if jax.process_count() > 1:
            # Those with less to do wait here, not in a step that the watchdog would end.
            multihost_utils.sync_global_devices(f"{what} after step {done}")
        blocked = time.monotonic() - began
        self._run.event("validation", step=done, blocked=blocked)
        self._meter.pause(blocked)

    def _save(self, state: State, done: int) -> None:
        """Begins to save, when the save before it is done."""
        began = time.monotonic()
        self._run.event("save_begin", step=done)
        saving = self._checkpoints.save(done, state, self._meta)
        blocked = time.monotonic() - began
        self._note_commit(waited=True)
        self._begun = done
        self._saving = (done, blocked) if saving else None
        self._meter.pause(blocked)

    def _save_whole(self, state: State, done: int) -> None:
        """Saves, if that was not begun already, and waits until it is written."""
        if self._begun != done:
            self._save(state, done)
        began = time.monotonic()
        self._checkpoints.close()
        self._note_commit(waited=True, blocked=time.monotonic() - began)

    @contextlib.contextmanager
    def _saved_on_failure(self) -> Iterator[None]:
        """Completes the save in progress when the run fails, so that it need not be done again."""
        try:
            yield
        except Exception:
            if jax.process_count() == 1:  # It takes all, and the others may not know of a failure.
                with contextlib.suppress(MreError):
                    self._checkpoints.close()
                    self._note_commit()
            raise

    def _note_commit(self, *, waited: bool = False, blocked: float = 0.0) -> None:
        """Writes down that the save that was begun last is complete, if it is.

        Args:
            waited: until it was.
            blocked: seconds that this took.
        """
        if self._saving is None:
            return
        step, before = self._saving
        if waited or step in self._checkpoints.committed():
            self._run.event("save_commit", step=step, blocked=round(before + blocked, 3))
            self._saving = None
