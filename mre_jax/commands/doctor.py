"""`mre doctor [CONFIG]`: is this machine, or this pod, ready for the run?

    mre doctor configs/reward_ip2p.yaml data.paths=[gs://bucket/set] --run gs://bucket/run

The same command on every worker of a pod; worker 0 prints what all have found. Nothing that it does
costs money or leaves a trace. Exit code of the worst: 0 ready, warnings or none; 65 the data is
bad, and 78 the configuration or the machine is: mend it first; 70 what may be mended by itself.
"""

import argparse

import jax

from mre_jax.commands.options import add_options, read_options
from mre_jax.doctor.examine import examine
from mre_jax.doctor.spec import DoctorSpec
from mre_jax.training.config import load_config
from mre_jax.training.liveness import guarded, start_distributed

EPILOG = "Exit codes: 0 ready; 65 data, 78 configuration: mend it first; 70 try again later."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre doctor`."""
    parser.epilog = EPILOG
    parser.add_argument("config", nargs="?", help="a configuration of mre train; optional")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as optimizer.learning_rate=1e-4"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--alone", action="store_true", help="join no other workers")
    add_options(parser, DoctorSpec)


def run(args: argparse.Namespace) -> int:
    """Looks at everything, and prints it on worker 0."""
    config = None if args.config is None else load_config(args.config, args.overrides)
    spec = read_options(DoctorSpec, args)
    with guarded():
        diagnosis = examine(spec, config, join=(lambda: None) if args.alone else start_distributed)
        # A worker whose chips are held has not asked JAX which one it is.
        if len(diagnosis.reports) == 1 or jax.process_index() == 0:
            print(diagnosis.to_json() if args.json else diagnosis)
    return diagnosis.exit_code
