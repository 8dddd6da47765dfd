"""Examples per second of the loader, beside a plain PyTorch DataLoader on the same JPEGs.

    python benchmarks/loader.py                # toy pictures of 256 px
    python benchmarks/loader.py --pixels 512   # as the public sets have them

PyTorch's side is what training code of this field does: a folder of files, opened in random order
by PIL, resized, mirrored, made into float tensors in [-1, 1]. This project's side reads shards,
checks both checksums of every record, and gives uint8. On a machine with other work, compare the
processor time.
"""

import argparse
import importlib.util
import io
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mre_jax.data.augment import Augmentation
from mre_jax.data.example import encode_triplet
from mre_jax.data.loader import Loader, Reading
from mre_jax.data.manifest import Manifest, shard_file, write_manifest
from mre_jax.data.record_source import RecordSource
from mre_jax.data.shards import write_shard
from mre_jax.data.triplets import Triplet


def main() -> None:
    """Writes the pictures, measures both sides, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=512, help="(%(default)s)")
    parser.add_argument("--pixels", type=int, default=256, help="side of the JPEGs (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(%(default)s)")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {args.examples} pairs of {args.pixels} px, batch {args.batch}")
    print(f"mean of {args.repeats} epochs after a first; workers' own processor time is not seen\n")
    print(f"{'':<32}{'examples/s':>10} {'CPU ms each':>12}")
    with tempfile.TemporaryDirectory() as folder:
        triplets = list(make_triplets(args.examples, args.pixels))
        source = write_shards(Path(folder) / "set", triplets)
        for reading in (Reading(threads=1), Reading(threads=2), Reading(threads=1, workers=2)):
            loader = Loader(
                [source], args.batch, 0, augmentation=Augmentation(256), reading=reading
            )
            name = f"mre_jax, {reading.threads} threads, {reading.workers} workers"
            print(f"{name:<32}{measure(epochs(loader), args.repeats)}", flush=True)
        if importlib.util.find_spec("torch"):
            write_files(Path(folder) / "files", triplets)
            for workers in (0, 2):
                name = f"PyTorch, {workers} workers"
                rate = measure(torch_epochs(Path(folder) / "files", workers, args), args.repeats)
                print(f"{name:<32}{rate}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"\npeak memory of this process {peak / 2**20:.2f} GiB")


def measure(epochs: Iterator[int], repeats: int) -> str:
    """Rate and processor time of this process over some epochs, after a first."""
    next(epochs)
    start, busy = time.perf_counter(), time.process_time()
    read = sum(next(epochs) for _ in range(repeats))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    return f"{read / seconds:10.1f} {1000 * busy / read:12.2f}"


def epochs(loader: Loader) -> Iterator[int]:
    """Reads epochs, one at each turn; yields their examples."""
    steps = int(loader.steps_per_epoch)
    # Without end: the last epoch must not gain from there being nothing to read ahead.
    batches = loader.batches()
    while True:
        yield sum(len(next(batches).positions) for _ in range(steps))


def torch_epochs(folder: Path, workers: int, args: argparse.Namespace) -> Iterator[int]:
    """`epochs` of a PyTorch DataLoader over pairs of files."""
    import torch

    torch.set_num_threads(1)  # as its workers do; pictures are too small to share

    class Pairs(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return args.examples

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            pair = torch.stack([self.pixels(number, name) for name in ("original", "edited")])
            if torch.rand(()) < 0.5:
                pair = pair.flip(-1)
            return {"original": pair[0], "edited": pair[1]}

        def pixels(self, number: int, name: str) -> torch.Tensor:
            image = Image.open(folder / f"{number}_{name}.jpg").convert("RGB")
            image = image.resize((256, 256), Image.Resampling.LANCZOS)
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


def write_shards(folder: Path, triplets: list[Triplet]) -> RecordSource:
    """The pictures as a prepared set of four shards."""
    folder.mkdir()
    shards = []
    for index in range(4):
        path = folder / shard_file("toy", "train", index, 4)
        shards.append(write_shard(path, map(encode_triplet, triplets[index::4])))
    write_manifest(folder, Manifest("toy", "train", {}, tuple(shards)))
    return RecordSource(folder)


def encode(image: Image.Image, pixels: int) -> bytes:
    """A JPEG of this size."""
    buffer = io.BytesIO()
    image.resize((pixels, pixels), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_files(folder: Path, triplets: list[Triplet]) -> None:
    """The pictures as files."""
    folder.mkdir()
    for number, triplet in enumerate(triplets):
        for name in ("original", "edited"):
            (folder / f"{number}_{name}.jpg").write_bytes(getattr(triplet, name))


if __name__ == "__main__":
    main()
