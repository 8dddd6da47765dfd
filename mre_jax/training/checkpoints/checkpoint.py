"""Checkpoints of a training state: saved in the background, checked bit by bit when restored.

With `reading`, all that knows Orbax, which reads damaged arrays without an error, lists steps it
has not written yet and keeps a failed save to itself: so these check, list and raise.
A checkpoint is a folder `STEP/` with the arrays in `state/` and a `Record` in `meta/`.
"""

import contextlib
import errno
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from mre_jax.errors import DataError, MreError
from mre_jax.training.checkpoints.fingerprint import measure
from mre_jax.training.checkpoints.folder import CheckpointFolder
from mre_jax.training.checkpoints.reading import (
    META,
    STATE,
    Restored,
    abandoned_reads_are_silent,
    of_first_process,
    read_record,
    read_together,
)
from mre_jax.training.checkpoints.record import Record, leaf_types
from mre_jax.training.checkpoints.replicas import check_parts


class SaveError(MreError):
    """A checkpoint could not be written; the run must not go on as if it had been."""


class Checkpoints:
    """The checkpoints of one run. One run writes to a folder at a time.

    All processes of a run make the same calls, on a folder that they share.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        every: int,
        keep: int,
        keep_every: int | None = None,
        pinned: Sequence[int] = (),
        commit_file: bool = False,
    ):
        """Touches nothing yet.

        Args:
            folder: for checkpoints only, local or `gs://...`; made when needed.
            every: steps between checkpoints.
            keep: how many of the newest to keep, at least 1.
            keep_every: also keep the steps divisible by this.
            pinned: also save and keep these.
            commit_file: on a local disk, write as into a bucket: in place, with a marker at the
                end. A bucket is always written so.
        """
        path = epath.Path(folder)
        path = path if "://" in str(folder) else path.absolute()
        self._folder = CheckpointFolder(path, commit_file or "://" in str(folder))
        self._every, self._keep, self._keep_every = every, keep, keep_every
        self._pinned = tuple(pinned)
        self._opened: ocp.CheckpointManager | None = None
        self._saving: int | None = None
        self._failure: MreError | None = None

    def check_space(self, state: Any) -> None:
        """Raises ConfigError if the disk cannot hold `keep` checkpoints and one in writing.

        Args:
            state: the state to be saved, or its abstract form.
        """
        self._folder.check_space(state, self._keep + 1)

    def due(self, step: int) -> bool:
        """Whether a checkpoint belongs at this step."""
        kept = self._keep_every is not None and step % self._keep_every == 0
        return step % self._every == 0 or kept or step in self._pinned

    def any(self) -> bool:
        """Whether there is a checkpoint, valid or not."""
        return bool(self._folder.steps())

    def committed(self) -> list[int]:
        """The steps that are completely written, ascending; one being saved is not among them."""
        return self._folder.committed()

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> bool:
        """Begins to save; returns when the state is copied, and may be donated or changed.

        Waits for the save before it. What is too old is deleted after this one is complete.

        Args:
            step: number of optimizer steps that are in the state.
            state: a pytree of arrays, all on one mesh.
            meta: JSON values to be kept with it.

        Returns:
            False if the step is there already, and nothing is done.

        Raises:
            SaveError: if this save could not begin, or one before it has failed.
            DataError: the same, for want of space; or if copies of the state differ (`replicas`).
        """
        self._finish()
        try:
            manager = self._manager()
        except OSError as error:
            raise self._failed(step, error) from error
        if step in manager.all_steps():
            if jax.process_index() == 0 and not self._folder.is_committed(step):
                raise self._failed(step, "an unfinished folder of its name is in the way")
            return False
        leaves = measure(state)
        check_parts(leaves, step)
        totals = {leaf.path: leaf.total() for leaf in leaves}
        record = Record(step, dict(meta), leaf_types(state), totals).to_json()
        items = {STATE: ocp.args.StandardSave(state), META: ocp.args.JsonSave(record)}
        try:
            manager.save(step, args=ocp.args.Composite(**items), force=True)
        except Exception as error:  # Of whatever library, it means that nothing is saved.
            raise self._failed(step, error) from error
        self._saving = step
        return True

    def close(self) -> None:
        """Waits for the save in progress; every run ends with this.

        Raises:
            SaveError, DataError: as `save` does, if that save or one before it has failed.
        """
        self._finish()
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def newest_meta(self) -> Mapping[str, Any] | None:
        """What was saved along with the newest checkpoint that has a valid record.

        Its arrays are not read.

        Returns:
            None if there is none.
        """
        for step in reversed(self._folder.committed()):
            with contextlib.suppress(DataError):
                return read_record(self._folder.path, step).meta
        return None

    def restore_newest(self, abstract_state: Any) -> Restored | None:
        """The newest checkpoint that is complete and has the bits that were saved.

        Newer ones that are damaged are renamed to `STEP.bad`, once a valid one is found.

        Args:
            abstract_state: `jax.ShapeDtypeStruct`s with the shardings to restore to, which need
                not be those that were saved.

        Returns:
            None if the folder holds no checkpoint at all.

        Raises:
            ConfigError: if the leaves of the newest readable one are not those of
                `abstract_state`; a leaf is named.
            DataError: if there are checkpoints and none is valid.
        """
        skipped: list[str] = []
        steps = of_first_process(self._folder.steps())
        with abandoned_reads_are_silent(skipped):
            for step in reversed(steps):
                try:
                    record, state = read_together(self._folder, step, abstract_state)
                except DataError as error:
                    skipped.append(str(error))
                    continue
                self._move_aside([newer for newer in steps if newer > step])
                return Restored(step, state, record.meta, tuple(skipped))
        if steps or self._folder.damaged():
            reasons = "; ".join(skipped) or f"only {', '.join(self._folder.damaged())}"
            raise DataError(
                f"{self._folder.path} has no valid checkpoint ({reasons}); not starting from "
                "scratch: bring one back, or give the run another folder"
            )
        return None

    def reached_preemption(self, step: int) -> bool:
        """Whether all processes are to save at this step, since one of them has got SIGTERM.

        Asked by all of them, at every step. Always False unless `liveness.start_distributed` was
        called.
        """
        try:
            return multihost_utils.reached_preemption_sync_point(step)
        except RuntimeError:  # JAX's preemption service is switched off.
            return False

    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            if jax.process_index() == 0:
                self._folder.remove_unfinished()
            mode = AtomicityMode.COMMIT_FILE if self._folder.commit_file else AtomicityMode.AUTO
            keep = [policies.LatestN(self._keep), policies.CustomSteps(self._pinned)]
            if self._keep_every is not None:
                keep.append(policies.EveryNSteps(self._keep_every))
            self._opened = ocp.CheckpointManager(
                self._folder.path,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=policies.AnyPreservationPolicy(keep),
                    atomicity_options=AtomicityOptions(mode=mode),
                ),
            )
        return self._opened

    def _finish(self) -> None:
        """Waits for the save in progress. Only waiting shows whether it has failed."""
        if self._failure is not None:
            raise self._failure
        if self._opened is None or self._saving is None:
            return
        step, self._saving = self._saving, None
        try:
            self._opened.wait_until_finished()
        except Exception as error:
            raise self._failed(step, error) from error
        # Other processes may see the marker later, where a network carries the folder.
        if jax.process_index() == 0 and not self._folder.is_committed(step):
            raise self._failed(step, "its commit marker is missing")

    def _failed(self, step: int, error: object) -> MreError:
        whole = self.committed()
        text = " ".join(str(error).split())[:300]
        message = f"{self._folder.path}: step {step} could not be saved ({text}); " + (
            f"step {whole[-1]} is the newest checkpoint" if whole else "there is no checkpoint"
        )
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        # The storage library has no error class of its own for a full disk.
        full = full or "No space left" in text
        self._failure = DataError(message) if full else SaveError(message)
        return self._failure

    def _move_aside(self, steps: Sequence[int]) -> None:
        if not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                self._folder.move_aside(step)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
