"""`mre data cache SHARDS --model MODEL --out DIR`: a prepared set with what the encoders say of it.

    mre data cache shards --model instruct-pix2pix --out cached
    mre data cache shards --model instruct-pix2pix --out cached --text --dtype bfloat16

The shards are written anew, beside the old ones. Run the same command again to go on after a stop;
they come out the same, byte for byte.
"""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mre_jax.commands.model_options import add_model
from mre_jax.data.batches.augment import FILTERS
from mre_jax.data.cache.description import DTYPES, KEPT
from mre_jax.data.records.manifest import SEVERAL, Manifest
from mre_jax.data.records.prepared_source import PreparedSource
from mre_jax.data.records.writer import prepare
from mre_jax.data.sources.selection import Check
from mre_jax.data.stats import rounding_lines
from mre_jax.errors import ConfigError
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import CUTS

if TYPE_CHECKING:
    from mre_jax.data.cache.maker import CacheMaker

_OWN = ("cache", "sample", "shards")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre data cache`."""
    parser.add_argument("folder", metavar="SHARDS", help="of mre prepare")
    add_model(parser, "whose VAE and text encoder are asked: ", required=True)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to fill")
    add_cache_options(parser)
    parser.add_argument(
        "--none-for-top",
        action=argparse.BooleanOptionalAction,
        help="'None' stands for reward texts of top scores (as the set was prepared)",
    )


def add_cache_options(parser: argparse.ArgumentParser) -> None:
    """What a cache holds and how it is made; for `mre prepare` too."""
    group = parser.add_argument_group("cache")
    group.add_argument("--dtype", choices=tuple(DTYPES), default="float16", help="(%(default)s)")
    group.add_argument(
        "--text",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="keep the states of instruction and reward text too: 237 kB an example for Stable "
        "Diffusion 1.5, where latents take 49",
    )
    group.add_argument(
        "--perspectives",
        default=",".join(PERSPECTIVES),
        metavar="NAMES",
        help="of the reward text (%(default)s)",
    )
    group.add_argument(
        "--reward-cut",
        choices=CUTS,
        default=CUTS[0],
        help="of a reward text that is too long: its end, or of each perspective what goes beyond "
        "its share (%(default)s)",
    )
    group.add_argument("--resolution", type=int, default=256, help="in pixels (%(default)s)")
    group.add_argument("--filter", choices=tuple(FILTERS), default="lanczos", help="(%(default)s)")
    group.add_argument(
        "--drop-pictures", action="store_true", help="keep thumbnails of 64 px in their place"
    )
    group.add_argument(
        "--batch-size",
        type=int,
        default=8,
        help="examples at a time on each device; the cache does not depend on it (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the set with its cache."""
    source = PreparedSource(args.folder)
    records, manifest = source.records, source.records.manifest
    if records.cache is not None and records.cache.pictures != KEPT:
        raise ConfigError(f"{args.folder}: its pictures were dropped; cache the set it came from")
    settings = {k: v for k, v in manifest.settings.items() if k not in _OWN}
    if args.none_for_top is None:
        args.none_for_top = bool(settings.get("none_for_top", True))
    maker = make_cache_maker(args, args.model)
    settings |= {"cached_from": manifest.hash, **maker.cache.settings()}
    # What was prepared once is not judged again.
    check = Check(decode=False, same_size=records.same_size, instruction=False)
    made = prepare(source, source.plan(), args.out, settings, check=check, extender=maker)
    print(f"{args.out}: {made.count} examples in {len(made.shards)} shards, {made.hash[:16]}")
    for line in report(maker, made):
        print(line)
    return 0


def make_cache_maker(args: argparse.Namespace, model: str) -> "CacheMaker":
    """Loads the model for the options of `add_cache_options`."""
    from mre_jax.data.cache.maker import CacheMaker, CacheOptions
    from mre_jax.io.devices import keep_programs

    options = CacheOptions(
        dtype=args.dtype,
        resolution=args.resolution,
        filter=args.filter,
        text=args.text,
        none_for_top=args.none_for_top,
        perspectives=tuple(args.perspectives.split(",")),
        reward_cut=args.reward_cut,
        drop_pictures=args.drop_pictures,
        batch_size=args.batch_size,
    )
    keep_programs()
    return CacheMaker(model, options, base=args.base, lora=args.lora)


def report(maker: "CacheMaker", made: Manifest) -> Iterator[str]:
    """What is cached, and what rounding and the text window cost."""
    measured: Any = made.measured
    yield str(maker.cache)
    if maker.cache.text is not None and (several := measured.get(SEVERAL)):
        yield (
            f"{several} examples have several instructions, of each of which the cache holds one; "
            "leave the texts out to have one drawn in each epoch"
        )
    yield from rounding_lines(measured["rounding"])
    for name, cut in measured.get("cut_texts", {}).items():
        yield f"{name}: {cut} of {measured['texts']} texts were cut to the encoder's window"
