"""`mre report`: result files as one HTML page."""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.report.spec import ReportSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre report`."""
    add_options(parser, ReportSpec)


def run(args: argparse.Namespace) -> int:
    """Writes the page and says what is in it."""
    spec = read_options(ReportSpec, args)
    written = spec.write()
    for note in written.notes:
        print(note)
    size = f"{written.bytes / 2**20:.1f} MiB"
    beside = f", and {written.beside / 2**20:.1f} MiB in {written.folder}" if written.folder else ""
    print(f"{spec.out}: {written.items} items, {written.pictures} pictures, {size}{beside}")
    return 0
