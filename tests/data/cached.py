"""A small toy set, a tiny model, and the set with what the model's encoders say of it."""

from pathlib import Path

from mre_jax import cli

SIDE = 32


def cache_arguments(shards: Path, model: Path, out: Path, *options: str) -> list[str]:
    return [
        *("data", "cache", str(shards), "--model", str(model), "--out", str(out)),
        *("--resolution", str(SIDE), "--batch-size", "1", *options),
    ]


def cache_toy(shards: Path, model: Path, out: Path, *options: str) -> Path:
    assert cli.main(cache_arguments(shards, model, out, *options)) == 0
    return out
