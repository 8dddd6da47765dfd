"""A small toy set, a tiny model, and the set with what the model's encoders say of it."""

from pathlib import Path

from mre_jax import cli
from mre_jax.data.cache.encoders import hashes_of
from mre_jax.weights.opening import model_at

SIDE = 32


def cache_arguments(shards: Path, model: Path, out: Path, *options: str) -> list[str]:
    return [
        *("data", "cache", str(shards), "--model", str(model), "--out", str(out)),
        *("--resolution", str(SIDE), "--batch-size", "1", *options),
    ]


def cache_toy(shards: Path, model: Path, out: Path, *options: str) -> Path:
    assert cli.main(cache_arguments(shards, model, out, *options)) == 0
    return out


def encoder_hashes(model, *, text=True, base=None):
    """What identifies the encoders of a model, as a run that starts from it has them."""
    components = ("vae", "text_encoder") if text else ("vae",)
    with model_at(model, base=base, components=components) as opened:
        return hashes_of(opened)
