"""Checkpoints of a training state: saved in the background, checked bit by bit when restored.

The one module that knows Orbax. Orbax reads damaged array data without an error, lists steps it
has not written yet and keeps a failed save to itself, so this module checks, lists and raises.
A checkpoint is a folder `STEP/` with the arrays in `state/` and a `Record` in `meta/`.
"""

import contextlib
import dataclasses
import errno
import gc
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Sharding
from orbax.checkpoint import checkpoint_managers as policies
from orbax.checkpoint.options import AtomicityMode, AtomicityOptions

from mre_jax.errors import ConfigError, DataError, MreError
from mre_jax.training.checkpoints.fingerprint import fingerprints, measure
from mre_jax.training.checkpoints.folder import CheckpointFolder
from mre_jax.training.checkpoints.record import Record, check_fits, leaf_types
from mre_jax.training.checkpoints.replicas import check_parts

STATE = "state"
META = "meta"


class SaveError(MreError):
    """A checkpoint could not be written; the run must not go on as if it had been."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read.

    Attributes:
        step: that it was saved as.
        state: of the structure that was asked for.
        meta: that was saved with it.
        skipped: newer steps that are damaged, one text each.
    """

    step: int
    state: Any
    meta: Mapping[str, Any]
    skipped: Sequence[str] = ()


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
        """What was saved along with the newest checkpoint that has a sound record.

        Its arrays are not read.

        Returns:
            None if there is none.
        """
        for step in reversed(self._folder.committed()):
            with contextlib.suppress(DataError):
                return _read_record(self._folder.path, step).meta
        return None

    def restore_newest(self, abstract_state: Any) -> Restored | None:
        """The newest checkpoint that is complete and has the bits that were saved.

        Newer ones that are damaged are renamed to `STEP.bad`, once a sound one is found.

        Args:
            abstract_state: `jax.ShapeDtypeStruct`s with the shardings to restore to, which need
                not be those that were saved.

        Returns:
            None if the folder holds no checkpoint at all.

        Raises:
            ConfigError: if the leaves of the newest readable one are not those of
                `abstract_state`; a leaf is named.
            DataError: if there are checkpoints and none is sound.
        """
        skipped: list[str] = []
        steps = _of_first_process(self._folder.steps())
        with _abandoned_reads_are_silent(skipped):
            for step in reversed(steps):
                try:
                    record, state = _read_together(self._folder, step, abstract_state)
                except DataError as error:
                    skipped.append(str(error))
                    continue
                self._move_aside([newer for newer in steps if newer > step])
                return Restored(step, state, record.meta, tuple(skipped))
        if steps or self._folder.damaged():
            reasons = "; ".join(skipped) or f"only {', '.join(self._folder.damaged())}"
            raise DataError(
                f"{self._folder.path} has no sound checkpoint ({reasons}); not starting from "
                "scratch: bring one back, or give the run another folder"
            )
        return None

    def reached_preemption(self, step: int) -> bool:
        """Whether all processes are to save at this step, since one of them was told to end.

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
        """Waits for the save in progress. Only waiting tells whether it has failed."""
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


def restore_params(
    folder: epath.PathLike,
    step: int | None = None,
    which: str = "params",
    sharding: Sharding | None = None,
) -> Restored:
    """The parameters of a checkpoint alone, for export; nothing in the folder is changed.

    Args:
        folder: of the run's checkpoints.
        step: None is the newest sound one.
        which: "params", or "ema" for their moving average.
        sharding: of the arrays; None restores NumPy arrays on the host.

    Returns:
        `state` is a dict by parameter name.

    Raises:
        ConfigError: if there is no such step, or it has no moving average.
        DataError: if the step, or every step, is damaged.
    """
    path = epath.Path(folder)
    path = path if "://" in str(folder) else path.absolute()
    # A step without its marker, in a bucket, may be one that is being written.
    steps = CheckpointFolder(path, commit_file=True).steps()
    if step is not None and step not in steps:
        raise ConfigError(f"{path} has no step {step}; it has {steps or 'none'}")
    if not steps:
        raise ConfigError(f"{path} has no checkpoint")
    skipped: list[str] = []
    with _abandoned_reads_are_silent(skipped):
        for candidate in [step] if step is not None else reversed(steps):
            try:
                record = _read_record(path, candidate)
                params = _read_params(path, record, which, sharding)
            except DataError as error:
                skipped.append(str(error))
                continue
            return Restored(candidate, params, record.meta, tuple(skipped))
    raise DataError(f"{path} has no sound checkpoint ({'; '.join(skipped)})")


def _read_together(folder: CheckpointFolder, step: int, abstract_state: Any) -> tuple[Record, Any]:
    """Reads a step on all processes; it fails on all of them if it does on one."""
    failure: MreError | None = None
    try:
        if not folder.is_committed(step):
            raise DataError(f"step {step}: it has no commit marker")
        record = _read_record(folder.path, step)
        check_fits(record, abstract_state, f"{folder.path}/{step}")
    except (ConfigError, DataError) as error:
        failure = error
    _agree(failure, step)
    try:
        state = _read_state(folder.path, step, abstract_state)
    except DataError as error:
        failure = error
    _agree(failure, step)
    _check_bits(record, fingerprints(state), step)
    return record, state


def _agree(failure: MreError | None, step: int) -> None:
    """Raises the failure of this process, or that of another."""
    failed = np.array(failure is not None)
    if jax.process_count() > 1:
        failed = multihost_utils.process_allgather(failed)
    if failure is not None:
        raise failure
    if failed.any():
        raise DataError(f"step {step}: another process cannot read it")


def _read_record(path: epath.Path, step: int) -> Record:
    try:
        return Record.from_json(ocp.JsonCheckpointHandler().restore(path / str(step) / META))
    except DataError as error:
        raise DataError(f"step {step}: {error}") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"step {step}: its record cannot be read ({_first(error)})") from error


def _read_state(path: epath.Path, step: int, abstract_state: Any) -> Any:
    args = ocp.args.StandardRestore(abstract_state)
    try:
        return ocp.StandardCheckpointHandler().restore(path / str(step) / STATE, args=args)
    except jax.errors.JaxRuntimeError:  # Out of memory, say: not the checkpoint's fault.
        raise
    except Exception as error:  # Damaged files raise whatever their readers stumble over.
        raise DataError(f"step {step}: its arrays cannot be read ({_first(error)})") from error


def _read_params(path: epath.Path, record: Record, which: str, sharding: Sharding | None) -> Any:
    prefix = f"{which}/"
    leaves = {p.removeprefix(prefix): t for p, t in record.leaves.items() if p.startswith(prefix)}
    if not leaves:
        raise ConfigError(f"{path}/{record.step} has no {which}; the run kept none")
    kind = ocp.RestoreArgs(restore_type=np.ndarray)
    if sharding is not None:
        kind = ocp.ArrayRestoreArgs(sharding=sharding)
    try:
        tree = ocp.PyTreeCheckpointHandler().restore(
            path / str(record.step) / STATE,
            args=ocp.args.PyTreeRestore(
                item={which: dict.fromkeys(leaves, 0)},
                restore_args={which: dict.fromkeys(leaves, kind)},
                partial_restore=True,
            ),
        )
    except jax.errors.JaxRuntimeError:
        raise
    except Exception as error:
        raise DataError(
            f"step {record.step}: its arrays cannot be read ({_first(error)})"
        ) from error
    found: dict[str, int] = {}
    for name, array in tree[which].items():  # One by one: the host's copy is the only one.
        found |= fingerprints({which: {name: array}})
    _check_bits(record, found, record.step)
    return tree[which]


def _check_bits(record: Record, found: Mapping[str, int], step: int) -> None:
    wrong = [path for path, value in found.items() if record.fingerprints.get(path) != value]
    if wrong:
        more = f" and {len(wrong) - 1} more leaves do" if len(wrong) > 1 else " does"
        raise DataError(f"step {step}: {wrong[0]}{more} not have the bits that were saved")


def _of_first_process(steps: list[int]) -> list[int]:
    """The list of process 0, on all of them: others may not see the newest folders yet."""
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
    mine = np.zeros(count, np.int32)
    mine[: len(steps)] = steps[:count]
    return [int(step) for step in multihost_utils.broadcast_one_to_all(mine)]


@contextlib.contextmanager
def _abandoned_reads_are_silent(skipped: Sequence[str]) -> Iterator[None]:
    """Drops the complaints of reads that Orbax leaves behind.

    When one array of thousands cannot be read, the others finish later, find the event loop
    closed that they report to, and would bury the error in as many tracebacks.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        closed = str(unraisable.exc_value) == "Event loop is closed"
        if not (closed or inspect.iscoroutine(unraisable.object)):
            before(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if skipped:
            gc.collect()  # Ends the coroutines here rather than at any time later.
        sys.unraisablehook = before


def _first(error: Exception) -> str:
    """The beginning of what a storage library says, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
