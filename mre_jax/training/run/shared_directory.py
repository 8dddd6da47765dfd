"""Whether all workers of a run see one directory, or each a directory of its own of that name."""

import time
import uuid
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from mre_jax.errors import ConfigError
from mre_jax.io.files import write_atomically

SECONDS = 20.0
"""After which a file that a worker wrote must be there for all; a network disk takes a while."""


def check_shared(path: epath.Path) -> None:
    """Has process 0 write a file of a random name and all look for it.

    Their first save would otherwise wait for ever. All processes call this together.

    Args:
        path: directory, which exists for process 0.

    Raises:
        ConfigError: on all of them, if one does not find it.
    """
    if jax.process_count() == 1:
        return
    # A new name each time: what a network disk remembers of another one does not matter.
    token = np.frombuffer(uuid.uuid4().bytes, np.uint8)
    if jax.process_index() == 0:
        write_atomically(_file(path, token), token.tobytes())
    token = np.asarray(multihost_utils.broadcast_one_to_all(token), np.uint8)
    found = multihost_utils.process_allgather(np.array(_holds(_file(path, token), token)))
    if jax.process_index() == 0:
        _file(path, token).unlink(missing_ok=True)
    check_found(path, np.ravel(found).tolist())


def check_found(path: epath.Path, found: Sequence[bool]) -> None:
    """Raises the error of `check_shared`; `found` is what each worker says, in their order."""
    if all(found):
        return
    others = [str(worker) for worker, whole in enumerate(found) if not whole]
    raise ConfigError(
        f"--run {path}: not the same directory on all workers (not that of worker 0 on "
        f"{', '.join(others)}); give gs://... or a network disk"
    )


def _file(path: epath.Path, token: np.ndarray) -> epath.Path:
    return path / f".shared-{token.tobytes().hex()}"


def _holds(file: epath.Path, token: np.ndarray) -> bool:
    """Whether the file is there, or comes, with the token in it."""
    end = time.monotonic() + SECONDS
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return bytes(file.read_bytes()) == token.tobytes()
