"""Start-up, bytes and read rate of a host whose set lies in a bucket, beside what its chips need.

    python benchmarks/bucket.py                   # 1, 4, 16 and 64 hosts
    python benchmarks/bucket.py --requests 1 16   # fewer under way at a time
    python benchmarks/bucket.py --slower 1        # on an idle machine with cores to spare

The bucket is emulated behind fsspec, as gcsfs is: each request waits for a latency (half of it
fixed, half exponential), then for its bytes over a connection, and all of them share the host's
network. It holds a set of full size, every record of which has the same content, so that neither
disk nor memory does. What reads is the training's own `RecordSource` and `Loader`, as one of the
hosts; hosts share nothing, so that one stands for all.

The emulated network is `--slower` than said by a factor, and the figures are scaled back: else this
machine's processor would be measured, not how well requests overlap. Processor time is told beside.
The row of a copy (`data.requests=0`) is arithmetic: all bytes over one connection.
"""

import argparse
import dataclasses
import io
import json
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

os.environ["EPATH_USE_TF"] = "0"  # where TensorFlow is installed, epath would ask it for gs://

import fsspec
import numpy as np
from loader import LATENTS, TEXT, make_triplets, make_values

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.loader import Loader
from mre_jax.data.cache.description import Cache
from mre_jax.data.cache.features import Rounding, pack
from mre_jax.data.records.example import encode_triplet
from mre_jax.data.records.lengths import lengths_path, write_lengths
from mre_jax.data.records.manifest import FILE, Manifest, Shard, shard_file, write_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.shards import SHARD_BYTES
from mre_jax.data.records.tfrecord import write_records

URL = "gs://emulated/set"
KINDS = {"latents": LATENTS, "latents and texts": TEXT}
CHIPS, BATCH, IMAGES = 4, 16, 166
"""Chips of a v5e host, examples of a chip and step, and images a second of a chip (`tpu.py`)."""
WARM = 8
"""Steps before and after the measured ones, so that as much is under way at their end as before."""


def main() -> None:
    """Prints a row for each kind of record, number of hosts and number of requests."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=313_010, help="(%(default)s)")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=24, help="to read (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.05, help="seconds (%(default)s)")
    parser.add_argument("--connection", type=float, default=50, help="MB/s (%(default)s)")
    parser.add_argument("--network", type=float, default=1000, help="MB/s of a host (%(default)s)")
    parser.add_argument("--slower", type=float, default=10, help="(%(default)s)")
    args = parser.parse_args()
    network = Network(args.latency, args.connection * 1e6, args.network * 1e6, args.slower)
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    need = CHIPS * IMAGES
    print(
        f"{args.examples} examples; {1000 * args.latency:g} ms a request, {args.connection:g} MB/s "
        f"a connection, {args.network:g} MB/s a host; {CHIPS * BATCH} examples a host and step; "
        f"its chips need {need}/s\n"
    )
    heads = ("start s", "at start MB", "epoch GB", "records/s", "of need", "CPU ms each")
    print(f"{'':<40}" + "".join(f"{head:>12}" for head in heads))
    for kind, cache in KINDS.items():
        files = make_set(args.examples, cache)
        size = sum(file.size for name, file in files.items() if ".tfrecord" in name)
        seconds = len(files) * args.latency + size / (args.connection * 1e6)
        print_row(f"{kind}, copied, any", seconds, size, 0.0)
        for hosts in args.hosts:
            for requests in args.requests:
                Bucket.files, Bucket.network = files, network
                row = measure(hosts, requests, args.steps, args.examples)
                print_row(f"{kind}, {requests} requests, {hosts} hosts", *row)


def print_row(
    name: str,
    start: float,
    at_start: float,
    epoch: float,
    rate: float | None = None,
    busy: float = 0.0,
) -> None:
    """Prints seconds, bytes, bytes, records a second and processor seconds a record."""
    row = f"{name:<40}{start:12.1f}{at_start / 1e6:12.1f}{epoch / 1e9:12.2f}"
    if rate is not None:
        row += f"{rate:12.0f}{rate / (CHIPS * IMAGES):12.1f}{1000 * busy:12.2f}"
    print(row, flush=True)


def measure(hosts: int, requests: int, steps: int, examples: int) -> tuple[float, ...]:
    """What `print_row` takes, of one of the hosts."""
    network = Bucket.network
    network.reset()
    start = time.perf_counter()
    source = RecordSource(URL, requests=requests)
    loader = Loader(
        *([source], hosts * CHIPS * BATCH, 0),
        augmentation=Augmentation(256, filter="bicubic"),
        host=hosts // 2,
        hosts=hosts,
    )
    batches = loader.batches(0, 1 + WARM + steps + WARM)
    at_start = network.bytes
    next(batches)
    started = time.perf_counter() - start
    for _ in range(WARM):
        next(batches)
    network.reset()
    start, busy = time.perf_counter(), time.process_time()
    read = sum(len(next(batches).positions) for _ in range(steps))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    for _ in batches:  # what was read ahead must not be counted in the next row
        pass
    record = int(source._places[0, 3]) + 16
    rate = network.slower * read / seconds
    return started / network.slower, at_start, record * examples / hosts, rate, busy / read


def make_set(examples: int, cache: Cache) -> dict[str, "Content"]:
    """The files of a prepared set of so many examples, all of one content."""
    (triplet,) = make_triplets(1, 64)
    record = encode_triplet(triplet, pack(cache, make_values(cache), "", Rounding()))
    framed = io.BytesIO()
    write_records(framed, [record])
    whole = framed.getvalue()
    count = -(-examples * len(whole) // SHARD_BYTES)
    counts = [examples * (n + 1) // count - examples * n // count for n in range(count)]
    shards = tuple(
        # A shard of another content would have another hash; none is ever compared here.
        Shard(shard_file("toy", "train", n, count), held, held * len(whole), f"{n:064x}")
        for n, held in enumerate(counts)
    )
    manifest = Manifest("toy", "train", json.loads(json.dumps(cache.settings())), shards)
    with tempfile.TemporaryDirectory() as folder:
        write_manifest(folder, manifest)
        write_lengths(folder, manifest, [len(record)] * examples)
        names = (FILE, lengths_path(folder, manifest).name)
        files = {name: Content(Path(folder, name).read_bytes()) for name in names}
    return files | {s.file: Content(whole, s.count) for s in shards}


@dataclasses.dataclass(frozen=True)
class Content:
    """Some bytes, repeated."""

    bytes: bytes
    times: int = 1

    @property
    def size(self) -> int:
        return self.times * len(self.bytes)

    def part(self, start: int, end: int) -> bytes:
        """Those from `start` to before `end`, or to the end."""
        first, last = start // len(self.bytes), -(-min(end, self.size) // len(self.bytes))
        begin = start - first * len(self.bytes)
        return (self.bytes * (last - first))[begin : begin + min(end, self.size) - start]


class Network:
    """Lets requests take the time they would; threads share it.

    Args:
        latency: seconds of a request, on average.
        connection: bytes a second of one.
        host: bytes a second of all together.
        slower: factor on all times.
    """

    def __init__(self, latency: float, connection: float, host: float, slower: float):
        self._latency, self._connection, self._host = latency, connection, host
        self.slower = slower
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Counts bytes anew, and draws the same latencies again."""
        with self._lock:
            self.bytes, self._free = 0, 0.0
            self._noise = np.random.default_rng(0)

    def wait(self, size: int) -> None:
        """Returns when so many bytes would have arrived."""
        with self._lock:
            now = time.perf_counter()
            self._free = max(self._free, now) + self.slower * size / self._host
            latency = self._latency * (0.5 + 0.5 * self._noise.exponential())
            alone = now + self.slower * (latency + size / self._connection)
            until = max(alone, self._free)
            self.bytes += size
        time.sleep(max(0.0, until - time.perf_counter()))


class Bucket(fsspec.AbstractFileSystem):
    """The files of `URL`, read only."""

    protocol = "gcs"
    files: ClassVar[dict[str, Content]] = {}
    network: ClassVar[Network]

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        self.network.wait(0)
        entries = [self._entry(name) for name in self.files]
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        self.network.wait(0)
        name = path.rpartition("/")[2]
        if name not in self.files:
            raise FileNotFoundError(path)
        return self._entry(name)

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any
    ) -> bytes:
        file = self.files[path.rpartition("/")[2]]
        data = file.part(start or 0, file.size if end is None else end)
        self.network.wait(len(data))
        return data

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> io.BytesIO:
        _ = self.info(path)
        return io.BytesIO(self.cat_file(path))

    def _entry(self, name: str) -> dict[str, Any]:
        return {"name": f"{URL}/{name}", "size": self.files[name].size, "type": "file"}


if __name__ == "__main__":
    main()
