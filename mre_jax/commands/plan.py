"""`mre plan CONFIG`: what a run takes before it is started; from a laptop, in seconds.

mre plan configs/reward_ip2p.yaml --topology v5e:4x4 data.batch_size=256
mre plan configs/reward_ip2p.yaml --topology v5e:4x4 --chips v6e-64 --judge openai:gpt-5.4
mre plan sample items.jsonl --topology v5e:4x4
"""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.errors import ConfigError
from mre_jax.planning.compiling import compile_on
from mre_jax.planning.hardware import slice_named
from mre_jax.planning.plan import for_chips, plan
from mre_jax.planning.sampling import plan_edits
from mre_jax.planning.spec import PlanSpec
from mre_jax.planning.storage import data_set
from mre_jax.training.config import TrainConfig, load_config

EDITS = "sample"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre plan`."""
    parser.add_argument("config", help="a configuration of mre train; or 'sample', then a list")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as data.batch_size=256; or the list"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_options(parser, PlanSpec)


def run(args: argparse.Namespace) -> int:
    """Prints the plan."""
    spec = read_options(PlanSpec, args)
    if args.config == EDITS:
        if len(args.overrides) != 1:
            raise ConfigError("mre plan sample: give one list of edits, as items.jsonl")
        edits = plan_edits(args.overrides[0], spec)
        print(edits.to_json() if args.json else edits)
        return 0
    config = load_config(args.config, args.overrides)
    if spec.compile:
        _compile(config, spec)
    found = plan(config, spec)
    print(found.to_json() if args.json else found)
    return 0


def _compile(config: TrainConfig, spec: PlanSpec) -> None:
    """Says what each program takes when it is compiled."""
    inputs = spec.inputs or data_set(config, spec.examples).inputs or "texts"
    for where in map(slice_named, spec.slices):
        one = compile_on(for_chips(config), where, inputs)
        fits = one.arguments + one.temporary <= where.chip.memory_gib
        print(
            f"{where.name} compiled: {one.arguments:.2f} + {one.temporary:.2f} GiB of "
            f"{where.chip.memory_gib:g}: {'fits' if fits else 'does not fit'}; "
            f"{one.milliseconds:.1f} ms without transfers and kernels",
            flush=True,
        )
