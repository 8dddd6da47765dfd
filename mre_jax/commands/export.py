"""`mre export RUN --out DIR`: the model that a run has trained, as a folder for editing with it."""

import argparse
import sys

from mre_jax.commands.options import add_options, read_options
from mre_jax.training.export import ExportSpec, export


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `mre export`."""
    add_options(parser, ExportSpec)


def run(args: argparse.Namespace) -> int:
    """Carries out `mre export`.

    Raises:
        DataError, ConfigError: as `export`.
    """
    spec = read_options(ExportSpec, args)
    report = export(spec)
    for reason in report.skipped:
        print(f"warning: {reason}", file=sys.stderr)
    for note in report.notes:
        print(note)
    print(f"wrote step {report.step} ({report.weights} weights) to {spec.out}")
    return 0
