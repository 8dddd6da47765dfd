"""A small toy world, and the shards that `mre prepare` makes of it."""

from pathlib import Path

from mre_jax import cli
from mre_jax.toyworld.dataset import Settings, write_dataset

EXAMPLES, SHARDS = 24, 3


def write_toy(folder: Path, examples: int = EXAMPLES, size: int = 32) -> Path:
    settings = Settings(examples=examples, size=size, benchmark=1, image_format="png")
    write_dataset(folder, settings, workers=1)
    return folder


def arguments(toy: Path, out: Path, *options: str) -> list[str]:
    return [
        *("prepare", "instruct_pix2pix", str(toy / "triplets"), "--out", str(out)),
        *("--rewards", str(toy / "RewardEdit.json"), "--name", "toy"),
        *("--min-shards", str(SHARDS), *options),
    ]


def prepare_toy(toy: Path, out: Path, *options: str) -> Path:
    assert cli.main(arguments(toy, out, *options)) == 0
    return out


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {p.name: p.read_bytes() for p in files if p.name != ".prepare.lock"}
