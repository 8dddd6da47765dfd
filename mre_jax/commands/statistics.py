"""`mre statistics RESULTS...`: means with intervals, differences, and how judges agree."""

import argparse
from collections.abc import Iterable

from mre_jax.commands.options import add_options, read_options
from mre_jax.evaluation.statistics.spec import StatisticsSpec
from mre_jax.evaluation.tables.formats import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre statistics`."""
    add_options(parser, StatisticsSpec)


def run(args: argparse.Namespace) -> int:
    """Prints what is asked for, by default the means of everything."""
    print_lines(read_options(StatisticsSpec, args).lines())
    return 0


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines, names in them made harmless for the terminal; indented ones stay so."""
    for line in lines:
        print(f"    {plain(line)}" if line.startswith(" ") else plain(line))
