"""Reading a checkpoint: all of it on all processes, or its parameters alone; checked bit by bit."""

import contextlib
import dataclasses
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

from mre_jax.errors import ConfigError, DataError, MreError
from mre_jax.training.checkpoints.fingerprint import fingerprints
from mre_jax.training.checkpoints.folder import CheckpointFolder
from mre_jax.training.checkpoints.record import Record, check_fits

STATE = "state"
META = "meta"


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read.

    Attributes:
        step: step that was saved.
        state: arrays in the structure that was asked for.
        meta: values that were saved with it.
        skipped: newer steps that are damaged, one text each.
    """

    step: int
    state: Any
    meta: Mapping[str, Any]
    skipped: Sequence[str] = ()


def restore_params(
    folder: epath.PathLike,
    step: int | None = None,
    which: str = "params",
    sharding: Sharding | None = None,
) -> Restored:
    """The parameters of a checkpoint alone, for export; nothing in the folder is changed.

    Args:
        folder: folder of the run's checkpoints.
        step: None is the newest valid one.
        which: "params", or "ema" for their moving average.
        sharding: sharding of the arrays; None restores NumPy arrays on the host.

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
    with abandoned_reads_are_silent(skipped):
        for candidate in [step] if step is not None else reversed(steps):
            try:
                record = read_record(path, candidate)
                params = _read_params(path, record, which, sharding)
            except DataError as error:
                skipped.append(str(error))
                continue
            return Restored(candidate, params, record.meta, tuple(skipped))
    raise DataError(f"{path} has no valid checkpoint ({'; '.join(skipped)})")


def read_together(folder: CheckpointFolder, step: int, abstract_state: Any) -> tuple[Record, Any]:
    """Reads a step on all processes; it fails on all of them if it does on one."""
    failure: MreError | None = None
    try:
        if not folder.is_committed(step):
            raise DataError(f"step {step}: it has no commit marker")
        record = read_record(folder.path, step)
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


def read_record(path: epath.Path, step: int) -> Record:
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


def of_first_process(steps: list[int]) -> list[int]:
    """The list of process 0, on all of them: others may not see the newest folders yet."""
    if jax.process_count() == 1:
        return steps
    count = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
    mine = np.zeros(count, np.int32)
    mine[: len(steps)] = steps[:count]
    return [int(step) for step in multihost_utils.broadcast_one_to_all(mine)]


@contextlib.contextmanager
def abandoned_reads_are_silent(skipped: Sequence[str]) -> Iterator[None]:
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
