"""`mre plan CONFIG`: what a run takes before it is started; from a laptop, in seconds.

mre plan configs/reward_ip2p.yaml --topology v5e:4x4 data.batch_size=256
mre plan configs/reward_ip2p.yaml --topology v5e:4x4 --chips v6e-64
"""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.planning.plan import plan
from mre_jax.planning.spec import PlanSpec
from mre_jax.training.config import load_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre plan`."""
    parser.add_argument("config", help="a configuration of mre train")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as data.batch_size=256")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_options(parser, PlanSpec)


def run(args: argparse.Namespace) -> int:
    """Prints the plan."""
    found = plan(load_config(args.config, args.overrides), read_options(PlanSpec, args))
    print(found.to_json() if args.json else found)
    return 0
