"""`mre statistics RESULTS...`: means with intervals, differences, and how judges agree."""

import argparse

from mre_jax.evaluation.provenance import add_side_by_side
from mre_jax.evaluation.results import read_all, read_results
from mre_jax.evaluation.statistics import Bootstrap
from mre_jax.evaluation.summary import (
    compare_lines,
    consistency_lines,
    correlation_lines,
    summary_lines,
)
from mre_jax.evaluation.table_formats import plain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre statistics`."""
    parser.add_argument(
        "results", nargs="+", help="files or folders of `mre evaluate`, one or more"
    )
    parser.add_argument("--types", action="store_true", help="also by type of instruction")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="SYSTEM[@REWARD]",
        help="the first less the second, on the items both have",
    )
    parser.add_argument(
        "--correlate", metavar="FILE", help="another judge's results of the same edits"
    )
    parser.add_argument(
        "--repeats", nargs="+", metavar="FILE", help="the same judge's results, asked again"
    )
    add_side_by_side(parser)
    parser.add_argument("--draws", type=int, default=Bootstrap.draws, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Prints what is asked for, by default the means of everything."""
    rows = read_all(args.results, apart=args.side_by_side)
    bootstrap = Bootstrap(args.draws, args.seed)
    lines: list[str] = []
    if args.compare:
        first, second = args.compare
        lines += compare_lines(rows, first, second, bootstrap)
    if args.correlate:
        lines += correlation_lines(rows, read_results(args.correlate))
    if args.repeats:
        runs = [rows, *(read_results(path) for path in args.repeats)]
        lines += consistency_lines(runs)
    if not lines:
        lines = summary_lines(rows, bootstrap, types=args.types)
    print("\n".join(plain(line) if line else "" for line in lines))
    return 0
