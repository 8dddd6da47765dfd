"""`mre improve CONFIG key=value ...`: train an editor on its own edits, judged, in rounds.

    mre improve configs/reward_ip2p.yaml model.init_from=ours data.paths=[shards] steps=2000 \\
        --held-out photos --judge openai:gpt-4o-2024-08-06 --max-usd 50 --out runs/improve

The configuration is that of `mre train`, and stands for the training of each round. The same
command goes on after a stop; with more rounds, or a higher --max-usd, it goes on too.
"""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.improvement.spec import ImproveSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre improve`."""
    parser.add_argument("config", help="training of each round, a file of configs/ or of your own")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as model.init_from=runs/first/model"
    )
    add_options(parser, ImproveSpec)


def run(args: argparse.Namespace) -> int:
    """Goes through the rounds, and prints what came of them."""
    spec = read_options(ImproveSpec, args)

    from mre_jax.improvement.improve import improve
    from mre_jax.io.devices import keep_programs
    from mre_jax.training.config import load_config

    config = load_config(args.config, args.overrides)
    keep_programs()
    print(improve(config, spec, log=print))
    return 0
