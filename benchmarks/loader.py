"""Examples per second of the loader, beside a plain PyTorch DataLoader on the same JPEGs.

    python benchmarks/loader.py                # toy pictures of 256 px
    python benchmarks/loader.py --pixels 512   # as the public sets have them
    python benchmarks/loader.py --only "1 thread, cached latents"   # the memory of one row

PyTorch's side is what the released code does: a folder an example, searched for its three files,
pictures opened by PIL, resized (bicubic), mirrored, made into float tensors in [-1, 1]. This
project's side reads shards, checks both checksums of every record, and gives uint8 pictures or
cached latents (bfloat16, 32x32x4) and text states (77x768). Neither side tokenizes. On a machine
with other work, compare the processor time.
"""

import argparse
import functools
import importlib.util
import io
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.loader import Loader, Reading
from mre_jax.data.cache.description import Cache, TextCache
from mre_jax.data.cache.features import Rounding, pack
from mre_jax.data.records.example import encode_triplet
from mre_jax.data.records.manifest import Manifest, shard_file, write_manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.records.shards import write_shard
from mre_jax.data.triplets import Triplet

LATENTS = Cache("0" * 64, "bfloat16", 256, "bicubic", (32, 32, 4))
TEXT = Cache(
    *("0" * 64, "bfloat16", 256, "bicubic", (32, 32, 4)), text=TextCache("0", "0", 77, 768)
)


def main() -> None:
    """Writes the pictures, measures all sides in turn, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=512, help="(%(default)s)")
    parser.add_argument("--pixels", type=int, default=256, help="side of the JPEGs (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {args.examples} pairs of {args.pixels} px, batch {args.batch}")
    print(f"fastest of {args.repeats} epochs, taken in turn; workers' processor time is not seen\n")
    print(f"{'':<40}{'examples/s':>10} {'CPU ms each':>12}")
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: begin for name, begin in make_rows(Path(folder), args) if args.only in name}
        best = dict.fromkeys(rows, (np.inf, np.inf))
        for _ in range(args.repeats):
            for name, begin in rows.items():
                seconds, busy = measure(begin())
                best[name] = min(seconds, best[name][0]), min(busy, best[name][1])
        for name, (seconds, busy) in best.items():
            print(f"{name:<40}{1 / seconds:10.1f} {1000 * busy:12.3f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\npeak memory of this process {peak / 2**20:.2f} GiB")


def make_rows(
    folder: Path, args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], Iterator[int]]]]:
    """Name, and what begins to read epochs, of each side."""
    triplets = list(make_triplets(args.examples, args.pixels))
    small = [*make_triplets(args.examples, 64)]
    sets = {
        "pictures": write_shards(folder / "pictures", triplets),
        "cached latents": write_shards(folder / "latents", triplets, LATENTS),
        "cached latents, thumbnails": write_shards(folder / "thumbnails", small, LATENTS),
        "cached latents and texts": write_shards(folder / "texts", triplets, TEXT),
    }
    readings = {
        "1 thread": Reading(threads=1),
        "2 threads": Reading(threads=2),
        "2 workers": Reading(threads=1, workers=2),
    }
    for how, reading in readings.items():
        for what, source in sets.items():
            loader = Loader(
                *([source], args.batch, 0),
                augmentation=Augmentation(256, filter="bicubic"),
                reading=reading,
            )
            yield f"{how}, {what}", functools.partial(epochs, loader)
    if importlib.util.find_spec("torch"):
        write_files(folder / "files", triplets)
        for workers in (0, 2):
            begin = functools.partial(torch_epochs, folder / "files", workers, args)
            yield f"PyTorch, {workers} workers", begin


def measure(epochs: Iterator[int]) -> tuple[float, float]:
    """Seconds, and processor seconds of this process, for an example of the second epoch."""
    next(epochs)
    start, busy = time.perf_counter(), time.process_time()
    read = next(epochs)
    return (time.perf_counter() - start) / read, (time.process_time() - busy) / read


def epochs(loader: Loader) -> Iterator[int]:
    """Reads epochs, one at each turn; yields their examples."""
    steps = int(loader.steps_per_epoch)
    # Without end: the last epoch must not gain from there being nothing to read ahead.
    batches = loader.batches()
    while True:
        yield sum(len(next(batches).positions) for _ in range(steps))


def torch_epochs(folder: Path, workers: int, args: argparse.Namespace) -> Iterator[int]:
    """`epochs` of a PyTorch DataLoader over folders of a pair and its prompt."""
    import torch

    torch.set_num_threads(1)  # as its workers do; pictures are too small to share

    class Pairs(torch.utils.data.Dataset):
        names = sorted(path.name for path in folder.iterdir())

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, number: int) -> dict[str, Any]:
            files = {path.name: path for path in (folder / self.names[number]).glob("*")}
            pair = torch.stack([self.pixels(files[name]) for name in ("7_0.jpg", "7_1.jpg")])
            if torch.rand(()) < 0.5:
                pair = pair.flip(-1)
            edit = json.loads(files["prompt.json"].read_text())["edit"]
            return {"original": pair[0], "edited": pair[1], "edit": edit}

        def pixels(self, path: Path) -> torch.Tensor:
            image = Image.open(path).convert("RGB").resize((256, 256))
            return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1

    loader = torch.utils.data.DataLoader(
        Pairs(), args.batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield sum(len(batch["original"]) for batch in loader)


def make_triplets(count: int, pixels: int) -> Iterator[Triplet]:
    """Pairs of smooth random pictures as JPEG."""
    noise = np.random.default_rng(0)
    for number in range(count):
        coarse = noise.integers(0, 256, (2, 24, 24, 3), np.uint8)
        original, edited = (encode(Image.fromarray(part), pixels) for part in coarse)
        yield Triplet(f"{number:06d}", original, edited, "change it", scores=(3, 4, 5))


def write_shards(folder: Path, triplets: list[Triplet], cache: Cache | None = None) -> RecordSource:
    """The examples as a prepared set of four shards, cached values being noise."""
    folder.mkdir()
    shards, rounding = [], Rounding()
    values = {} if cache is None else make_values(cache)
    extra = None if cache is None else pack(cache, values, "", rounding)
    for index in range(4):
        path = folder / shard_file("toy", "train", index, 4)
        records = (encode_triplet(triplet, extra) for triplet in triplets[index::4])
        shards.append(write_shard(path, records))
    settings = {} if cache is None else json.loads(json.dumps(cache.settings()))
    write_manifest(folder, Manifest("toy", "train", settings, tuple(shards)))
    return RecordSource(folder)


def make_values(cache: Cache) -> Mapping[str, np.ndarray]:
    """Noise of the cache's shapes."""
    noise = np.random.default_rng(0)
    return {name: noise.standard_normal(shape, np.float32) for name, shape in cache.shapes.items()}


def encode(image: Image.Image, pixels: int) -> bytes:
    """A JPEG of this size."""
    buffer = io.BytesIO()
    image.resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_files(folder: Path, triplets: list[Triplet]) -> None:
    """The examples as files, in a folder each."""
    for triplet in triplets:
        part = folder / triplet.id
        part.mkdir(parents=True)
        (part / "7_0.jpg").write_bytes(triplet.original)
        (part / "7_1.jpg").write_bytes(triplet.edited)
        (part / "prompt.json").write_text(json.dumps({"edit": triplet.instruction}))


if __name__ == "__main__":
    main()
