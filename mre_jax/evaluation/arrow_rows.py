"""Rows of Arrow files, as `datasets` saves them: GEdit-Bench is given out so.

Such a file is a stream of record batches; files of Arrow's random-access form are read too. On a
disk they are mapped into memory, so that of a batch of large pictures no more than a row is copied.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError

_PART = re.compile(r"(.+)-\d+-of-(\d+)\.arrow")
_RANDOM_ACCESS = b"ARROW1"


def arrow_files(path: epath.Path, split: str | None = None) -> list[epath.Path]:
    """The file, or those of a folder up to two levels below in the order of their names.

    Args:
        split: of a folder's files, those called `SPLIT-...` or in a folder `SPLIT`.

    Raises:
        DataError: if a numbered file is missing among those there.
    """
    if path.suffix == ".arrow":
        return [path]
    levels = ("*.arrow", "*/*.arrow", "*/*/*.arrow")
    found = sorted((file for level in levels for file in path.glob(level)), key=str)
    files = [
        file
        for file in found
        if split is None
        or split in file.parts[len(path.parts) :]
        or file.name.startswith(f"{split}-")
    ]
    parts = Counter(
        (str(file.parent / match[1]), int(match[2]))
        for file in files
        if (match := _PART.fullmatch(file.name))
    )
    for (name, total), count in parts.items():
        if count != total:
            raise DataError(f"{name}-*.arrow: {count} of {total} files are there; fetch the others")
    return files


def read_arrow(files: Sequence[epath.Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the rows of the files, with file and row for messages.

    Raises:
        ConfigError: if pyarrow is not installed.
        DataError: if a file is missing, damaged, or not Arrow.
    """
    try:
        import pyarrow  # only who reads Arrow needs it
    except ImportError:
        raise ConfigError("reading Arrow needs pyarrow: pip install 'mre_jax[data]'") from None
    for file in files:
        number = 0
        try:
            for batch in _batches(pyarrow, file):
                for row in range(batch.num_rows):
                    yield f"{file} row {number}", batch.slice(row, 1).to_pylist()[0]
                    number += 1
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{file}: damaged, or not Arrow ({reason})") from None


def _batches(pyarrow: Any, file: epath.Path) -> Iterator[Any]:
    remote = "://" in str(file)
    with file.open("rb") if remote else pyarrow.memory_map(str(file)) as source:
        start = source.read(len(_RANDOM_ACCESS))
        source.seek(0)
        if start != _RANDOM_ACCESS:
            yield from pyarrow.ipc.open_stream(source)
            return
        reader = pyarrow.ipc.open_file(source)
        yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
