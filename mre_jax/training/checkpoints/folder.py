"""The steps in a folder of checkpoints, on a disk or in a bucket: `1000/`, `2000/`, ...

A step is complete when it has its commit marker. A step found damaged is kept for a look as
`2000.bad/`, where no later save of step 2000 runs into it.
"""

import dataclasses
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from mre_jax.errors import ConfigError

MARKER = "commit_success.txt"
UNFINISHED = ".orbax-checkpoint-tmp"


@dataclasses.dataclass(frozen=True)
class CheckpointFolder:
    """A folder of checkpoints; it need not exist.

    Attributes:
        path: place of the folder.
        commit_file: a step appears under its name when it is begun and gets its marker at the
            end, as in a bucket, which cannot rename; otherwise it is renamed when complete.
    """

    path: epath.Path
    commit_file: bool

    def steps(self) -> list[int]:
        """The steps that are there, valid or not, ascending; without killed saves."""
        found = sorted(int(child.name) for child in self._children() if _is_step(child.name))
        return [step for step in found if not self.commit_file or self.is_committed(step)]

    def committed(self) -> list[int]:
        """The steps that are completely written, ascending."""
        return [step for step in self.steps() if self.is_committed(step)]

    def is_committed(self, step: int) -> bool:
        return bool((self.path / str(step) / MARKER).exists())

    def damaged(self) -> list[str]:
        """Names of the damaged steps that were moved out of the way."""
        return sorted(c.name for c in self._children() if re.fullmatch(r"\d+\.bad\d*", c.name))

    def move_aside(self, step: int) -> None:
        """Renames a damaged step."""
        taken = self.damaged()
        names = (f"{step}.bad{number or ''}" for number in range(len(taken) + 1))
        (self.path / str(step)).rename(self.path / next(n for n in names if n not in taken))

    def remove_unfinished(self) -> None:
        """Deletes what killed saves have left. Only for the process that writes here."""
        for child in self._children():
            killed = _is_step(child.name) and not (child / MARKER).exists()
            if UNFINISHED in child.name or (self.commit_file and killed):
                child.rmtree()

    def check_space(self, state: Any, checkpoints: int) -> None:
        """Compares the free space of the disk with what the checkpoints of a run take at once.

        Args:
            state: a state, or its abstract form.
            checkpoints: how many of it will lie there, with one that is being written.

        Raises:
            ConfigError: if there is too little. A bucket is never full.
        """
        if "://" in str(self.path):
            return
        path = Path(self.path)
        existing = next(p for p in (path, *path.absolute().parents) if p.exists())
        taken = sum(_bytes_of(path / str(step)) for step in self.committed()[1 - checkpoints :])
        free = shutil.disk_usage(existing).free
        size = sum(
            int(np.prod(x.shape, dtype=np.int64)) * x.dtype.itemsize for x in jax.tree.leaves(state)
        )
        if size * checkpoints > free + taken:
            raise ConfigError(
                f"{self.path}: {checkpoints} checkpoints of {_gib(size)} each need "
                f"{_gib(size * checkpoints - taken)}, and {_gib(free)} are free; "
                "make room, or lower checkpoint.keep"
            )

    def _children(self) -> Iterator[epath.Path]:
        return iter(self.path.iterdir()) if self.path.exists() else iter(())


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _bytes_of(folder: Path) -> int:
    return sum(
        (Path(root) / name).lstat().st_size for root, _, names in os.walk(folder) for name in names
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
