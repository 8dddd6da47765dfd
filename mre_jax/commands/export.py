"""`mre export RUN --out DIR`: the model that a run has trained, as a folder for editing with it."""

import argparse
import sys

from mre_jax.training.export import FORMATS, WEIGHTS, export
from mre_jax.weights.save import DTYPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mre export`."""
    parser.add_argument("run", metavar="RUN", help="the directory of `mre train`")
    parser.add_argument("--out", required=True, metavar="DIR", help="the model folder to write")
    parser.add_argument("--format", choices=FORMATS, default="diffusers")
    parser.add_argument("--step", type=int, metavar="N", help="default: the newest checkpoint")
    parser.add_argument(
        "--weights", choices=WEIGHTS, help="moving average or not (default: ema if there is one)"
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="for all but the UNet (default: the run's model.init_from)"
    )
    parser.add_argument(
        "--lora",
        metavar="FILE[:SCALE]",
        action="append",
        default=[],
        help="a LoRA to merge into the model's weights, of the scale 1 or another; may be repeated",
    )
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="same")
    parser.add_argument("--force", action="store_true", help="replace DIR")


def run(args: argparse.Namespace) -> int:
    """Carries out `mre export`.

    Raises:
        DataError, ConfigError: as `export`.
    """
    options = ("format", "step", "weights", "base", "lora", "dtype", "force")
    found = export(args.run, args.out, **{name: getattr(args, name) for name in options})
    for reason in found.skipped:
        print(f"warning: {reason}", file=sys.stderr)
    for note in found.notes:
        print(note)
    print(f"wrote step {found.step} ({found.weights} weights) to {args.out}")
    return 0
