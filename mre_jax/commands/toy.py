"""`mre toy --out DIR`: the toy world in the layouts of the public data sets.

    mre toy --out toy --examples 2000 --size 64

A run that was stopped is finished by running the same command again.
"""

import argparse
from pathlib import Path

from mre_jax.commands.options import add_options, read_options
from mre_jax.toyworld.dataset import Settings, histogram, write_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre toy`."""
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_options(parser, Settings)
    parser.add_argument("--workers", type=int, help="processes; all cores by default")


def run(args: argparse.Namespace) -> int:
    """Writes the toy world that the options ask for and prints its score histogram."""
    settings = read_options(Settings, args)
    rewards = write_dataset(args.out, settings, workers=args.workers)
    print(histogram(rewards))
    print(f"{args.out}: {settings.triplets} triplets, {settings.benchmark} held-out scenes")
    return 0
