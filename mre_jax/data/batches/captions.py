"""Batches of captions without pictures, for stage 1 of SmartEdit; see `loader`."""

import array
import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from etils import epath
from jaxtyping import Int64, UInt32

from mre_jax.data.batches.batch import Batch, Tokenize
from mre_jax.data.batches.loader import Reading
from mre_jax.data.batches.order import Order, draw, positions
from mre_jax.errors import DataError
from mre_jax.io.extra import of_extra
from mre_jax.io.files import refuse_lfs_pointer
from mre_jax.reward.scores import WORST
from mre_jax.smartedit.prompt import Prompts

KEY = "caption"
"""Of the rows of a file of JSON lines."""

WriteCaptions: TypeAlias = Callable[
    [Sequence[str], UInt32[np.ndarray, "b 2"]], tuple[Prompts, list[str]]
]
"""The prompts of captions, of which each has its example's key, and what they hold of each."""


@dataclasses.dataclass(frozen=True)
class Caption:
    """A line of a file.

    Attributes:
        id: "line 12", counted from 1.
        text: without white space at its ends.
    """

    id: str
    text: str


class CaptionFile:
    """A caption a line: plain text, or JSON lines with a "caption" each where it ends in .jsonl.

    Lines without text are left out. The file stays on disk; where each line begins takes 16 bytes.

    Example:
        >>> path = epath.Path(f"{OUT}.txt")
        >>> _ = path.write_text("a red car\\n\\ntwo dogs\\n")
        >>> captions = CaptionFile(path)
        >>> len(captions), captions[1].text, captions[1].id
        (2, 'two dogs', 'line 3')

    Attributes:
        path: the file, on a disk of this machine.

    Raises:
        DataError: if it is missing or holds no caption.
    """

    def __init__(self, path: epath.PathLike):
        self.path = epath.Path(path)
        if not self.path.is_file():
            raise DataError(f"{path} is missing; name a file with a caption a line")
        refuse_lfs_pointer(self.path)
        spans, start = array.array("q"), 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                if line.strip():
                    spans.extend((start, number))
                start += len(line)
        if not spans:
            raise DataError(f"{path} holds no caption; write one a line")
        self._spans = np.array(spans, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, number: int) -> Caption:
        """A caption.

        Raises:
            DataError: naming a line that is no UTF-8 text, or no JSON with a caption.
        """
        start, line = self._spans[number].tolist()
        where = f"{self.path}, line {line + 1}"
        with self.path.open("rb") as file:
            file.seek(start)
            data = file.readline()
        try:
            text = data.decode().strip()
        except UnicodeDecodeError:
            raise DataError(f"{where} is not UTF-8 text") from None
        return Caption(f"line {line + 1}", self._of_json(text, where))

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _of_json(self, text: str, where: str) -> str:
        if self.path.suffix != ".jsonl":
            return text
        try:
            return str(json.loads(text)[KEY]).strip()
        except (ValueError, KeyError, TypeError):
            raise DataError(f'{where} is no JSON object with a "{KEY}"') from None


@dataclasses.dataclass(frozen=True)
class CaptionLoader:
    """One host's part of every batch: captions as token ids, and prompts of them.

    Attributes:
        sources: one file or several.
        batch_size, seed, weights, host, hosts, reading: as those of `Loader`.
        tokenize: makes token ids for the text encoder.
        write: makes the prompts.
    """

    sources: Sequence[CaptionFile]
    batch_size: int
    seed: int
    weights: tuple[float, ...] | None = None
    host: int = 0
    hosts: int = 1
    reading: Reading = dataclasses.field(default_factory=Reading)
    tokenize: Tokenize | None = None
    write: WriteCaptions | None = None

    def __post_init__(self) -> None:
        _ = self.order
        positions(0, self.batch_size, self.host, self.hosts)

    @property
    def order(self) -> Order:
        """Which caption stands where."""
        return Order(tuple(map(len, self.sources)), self.seed, self.weights)

    @property
    def steps_per_epoch(self) -> float:
        """Steps in which as many captions are read as there are."""
        return sum(self.order.sizes) / self.batch_size

    def find(self, where: Int64[np.ndarray, " b"]) -> Iterator[tuple[CaptionFile, int]]:
        """The file, and the number of its caption, that is read at each position."""
        rows = zip(*self.order.locate(where), strict=True)
        return ((self.sources[int(number)], int(row)) for number, row in rows)

    def batch(self, step: int) -> Batch:
        """The batch of one step.

        Raises:
            DataError: naming a line that is damaged, or the caption that no prompt can hold.
        """
        where = positions(step, self.batch_size, self.host, self.hosts)
        captions = [source[row].text for source, row in self.find(where)]
        keys, count = draw(self.seed, where).key_data, len(where)
        assert self.write is not None and self.tokenize is not None  # noqa: S101  fitted by the run
        prompts, read = self.write(captions, keys)
        no = np.zeros(count, bool)
        return Batch(
            original=None,
            edited=None,
            instruction=self.tokenize(read),
            scores=np.tile(np.array(WORST, np.float32), (count, 1)),
            reward_text=None,
            present=no,
            drop_text=no,
            drop_image=no,
            flip=no,
            key_data=keys,
            positions=where,
            prompts=prompts,
        )

    def batches(self, start: int = 0, stop: int = sys.maxsize) -> Iterator[Batch]:
        """The batches of steps start .. stop-1, read ahead by threads."""
        grain: Any = of_extra("grain")
        steps = grain.MapDataset.range(start, stop).map(self.batch)
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.reading.ahead)
        return iter(steps.to_iter_dataset(options))
