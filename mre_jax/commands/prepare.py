"""`mre prepare SOURCE PATH --out DIR`: a public set, with its rewards, as TFRecord shards.

    mre prepare instruct_pix2pix toy/triplets --rewards toy/RewardEdit.json --out shards
    mre prepare magicbrush MagicBrush/data --option split=train --out magicbrush

Run the same command again to go on after a stop; the shards come out the same, byte for byte.
"""

import argparse
import sys

from mre_jax.commands.options import add_options, read_options
from mre_jax.data.bad_examples import BadExamplesError, report_bad
from mre_jax.data.prepare import PrepareSpec, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre prepare`."""
    add_options(parser, PrepareSpec)


def run(args: argparse.Namespace) -> int:
    """Writes the shards that the options ask for."""
    spec = read_options(PrepareSpec, args)
    try:
        made = prepare(spec, say=print)
    except BadExamplesError as error:
        for line in report_bad(error.bad, spec.out):
            print(line, file=sys.stderr)
        raise
    print(made)
    if made.skipped:
        print(f"left out {len(made.skipped)} bad examples:")
        for line in report_bad(made.skipped, spec.out):
            print(line)
    return 0
