"""The framing of TFRecord files, read and written without TensorFlow.

A record is its length (8 bytes, little-endian), the masked CRC-32C of these, the payload, and the
masked CRC-32C of the payload. A file has no header, no index and no end mark, so that a cut
between two records shows only in a count that is kept elsewhere.
"""

import functools
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from etils import epath
from jaxtyping import Int64

from mre_jax.errors import DataError
from mre_jax.io.bucket import ReadAt, read_at
from mre_jax.io.extra import of_extra

HEADER_BYTES, FOOTER_BYTES = 12, 4

_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_TAIL = 2**16


class RecordError(DataError):
    """A damaged record.

    Attributes:
        shard: the file.
        record: number of the record in the file, from 0.
        offset: where it begins, in bytes.
        kind: what is wrong.
    """

    def __init__(self, shard: str, record: int, offset: int, kind: str):
        # All of them as arguments, so that the error crosses from a worker process.
        super().__init__(shard, record, offset, kind)
        self.shard, self.record, self.offset, self.kind = shard, record, offset, kind

    def __str__(self) -> str:
        return f"{self.shard}: record {self.record} at byte {self.offset}: {self.kind}"


def write_records(file: IO[bytes], records: Iterable[bytes]) -> int:
    """Appends records to a file that is open for writing.

    Returns:
        How many there were.
    """
    count = 0
    for record in records:
        header = _LENGTH.pack(len(record))
        file.write(header + _CRC.pack(masked_crc(header)))
        file.write(record)
        file.write(_CRC.pack(masked_crc(record)))
        count += 1
    return count


def record_offsets(
    path: epath.PathLike,
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Finds the records of a file by their headers alone.

    Returns:
        Where each record begins, and the length of its payload, in bytes.

    Raises:
        RecordError: if a header is damaged or the file ends inside a record.
    """
    with open_shard(path) as file:
        return find_records(pread(file), os.fstat(file.fileno()).st_size, str(path))


def find_records(
    read: ReadAt, size: int, shard: str
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """What `record_offsets` finds, by what reads the file, of `size` bytes."""
    records = np.array([*_walk(read, size, shard)], np.int64).reshape(-1, 2)
    return records[:, 0].copy(), records[:, 1].copy()


def pread(file: IO[bytes]) -> ReadAt:
    """Reads parts of an open file of a local disk, where it is open; threads may share it."""
    descriptor = file.fileno()
    return lambda offset, length: os.pread(descriptor, length, offset)


def read_record(
    read: ReadAt, offset: int, length: int, *, shard: str = "", record: int = 0
) -> bytes:
    """Reads the payload of one record and checks it against both of its checksums.

    Args:
        read: what reads parts of the file: `pread`, or `io.bucket.read_at`.
        offset: offset by `record_offsets`.
        length: length by `record_offsets`.
        shard: the file, for messages.
        record: number of the record in the file, for messages.

    Raises:
        RecordError: if the record is damaged.
    """
    data = read(offset, HEADER_BYTES + length + FOOTER_BYTES)
    if _payload_length(data[:HEADER_BYTES], shard, record, offset) != length:
        raise RecordError(shard, record, offset, "its length is not that of the index")
    if len(data) != HEADER_BYTES + length + FOOTER_BYTES:
        raise RecordError(shard, record, offset, "the file ends inside it")
    payload = data[HEADER_BYTES:-FOOTER_BYTES]
    if _CRC.unpack(data[-FOOTER_BYTES:])[0] != masked_crc(payload):
        raise RecordError(shard, record, offset, "the checksum of its content does not match")
    return payload


def read_records(path: epath.PathLike) -> Iterator[bytes]:
    """Reads the payloads of a file in order; see `read_record`.

    Raises:
        RecordError: at the first damaged record, after the whole ones before it.
    """
    with open_shard(path) as file:
        read, size = pread(file), os.fstat(file.fileno()).st_size
        for record, (offset, length) in enumerate(_walk(read, size, str(path))):
            yield read_record(read, offset, length, shard=str(path), record=record)


def read_ends(path: epath.PathLike) -> tuple[bytes, bytes]:
    """Reads the payloads of the first and the last record alone, wherever the file is.

    The last one is found from the end of the file, so that one in a bucket is not read whole.

    Raises:
        RecordError: if one of them is damaged, or the file holds none.
    """
    path, read = epath.Path(path), read_at(path)
    size = path.stat().length
    length = _payload_length(read(0, HEADER_BYTES), str(path), 0, 0)
    first = _whole(read(HEADER_BYTES, length + FOOTER_BYTES), length, str(path), 0)
    span = max(_TAIL, 2 * length)
    while True:
        start = max(0, size - span)
        tail = read(start, size - start)
        if (found := _last_header(tail)) is not None:
            rest = tail[found + HEADER_BYTES :]
            return first, _whole(rest, len(rest) - FOOTER_BYTES, str(path), start + found)
        if start == 0:
            raise RecordError(str(path), 0, 0, "no record ends where the file does")
        span *= 8


def open_shard(path: epath.PathLike) -> IO[bytes]:
    """Opens a shard on a local disk.

    Raises:
        DataError: if it is missing, or in a bucket, where it cannot be read at random.
    """
    if "://" in str(path):
        raise DataError(f"{path}: records are read at random; copy the folder to a local disk")
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a shard is wanted") from None


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and shifted as TFRecord files hold it."""
    crc = _crc()(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


@functools.cache
def _crc() -> Callable[[bytes], int]:
    """CRC-32C. Asked for when it is needed, so that commands explain themselves without it."""
    return of_extra("google_crc32c").value


def _walk(read: ReadAt, size: int, shard: str) -> Iterator[tuple[int, int]]:
    """Begin and payload length of each record, from the headers."""
    offset = record = 0
    while offset < size:
        header = read(offset, HEADER_BYTES)
        length = _payload_length(header, shard, record, offset)
        end = offset + HEADER_BYTES + length + FOOTER_BYTES
        if end > size:
            raise RecordError(shard, record, offset, "the file ends inside it")
        yield offset, length
        offset, record = end, record + 1


def _last_header(tail: bytes) -> int | None:
    """Where the record begins that ends with these bytes, by a length that matches its checksum."""
    # Its length takes less than four of the eight bytes; the others are 0.
    found = tail.rfind(bytes(4))
    while found >= 4:
        begin, end = found - 4, found - 4 + HEADER_BYTES
        length = _LENGTH.unpack(tail[begin : begin + 8])[0]
        fits = end + length + FOOTER_BYTES == len(tail)
        if fits and _CRC.unpack(tail[end - 4 : end])[0] == masked_crc(tail[begin : begin + 8]):
            return begin
        found = tail.rfind(bytes(4), 0, found + 3)
    return None


def _whole(data: bytes, length: int, shard: str, offset: int) -> bytes:
    """The payload, of these bytes, if its checksum behind it is right."""
    if len(data) < length + FOOTER_BYTES:
        raise RecordError(shard, 0, offset, "the file ends inside it")
    payload = data[:length]
    if _CRC.unpack(data[length : length + FOOTER_BYTES])[0] != masked_crc(payload):
        raise RecordError(shard, 0, offset, "the checksum of its content does not match")
    return payload


def _payload_length(header: bytes, shard: str, record: int, offset: int) -> int:
    if len(header) < HEADER_BYTES:
        raise RecordError(shard, record, offset, "the file ends inside its header")
    if _CRC.unpack_from(header, _LENGTH.size)[0] != masked_crc(header[: _LENGTH.size]):
        raise RecordError(shard, record, offset, "the checksum of its length does not match")
    return _LENGTH.unpack_from(header)[0]
