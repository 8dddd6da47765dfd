"""`mre statistics RESULTS...`: means with intervals, differences, and how judges agree."""

import argparse
from collections.abc import Sequence

from mre_jax.errors import ConfigError
from mre_jax.evaluation.provenance import add_side_by_side
from mre_jax.evaluation.results import Result, read_all, read_results, select
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.summary import (
    compare_lines,
    consistency_lines,
    correlation_lines,
    reliability_lines,
    summary_lines,
)
from mre_jax.evaluation.tables.formats import plain
from mre_jax.judges.others.ratings import read_ratings

_PEOPLE = ""
"""What --correlate without a file is: the people in the results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre statistics`."""
    parser.add_argument(
        "results", nargs="*", help="files or folders of `mre evaluate`, one or more"
    )
    parser.add_argument("--types", action="store_true", help="also by type of instruction")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar="SYSTEM[@REWARD]",
        help="the first less the second, on the items both have: scores, accuracy, win rate; p is "
        "given as it is and corrected by Holm's method",
    )
    parser.add_argument(
        "--correlate",
        nargs="?",
        const=_PEOPLE,
        metavar="FILE",
        help="another judge's results of the same edits; without FILE, people's in the results",
    )
    parser.add_argument(
        "--repeats", nargs="+", metavar="FILE", help="the same judge's results, asked again"
    )
    parser.add_argument(
        "--agreement", metavar="FILE", help="a table of several people's scores, as --judge human:"
    )
    add_side_by_side(parser)
    parser.add_argument("--draws", type=int, default=Bootstrap.draws, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Prints what is asked for, by default the means of everything."""
    if not args.results and not args.agreement:
        raise ConfigError("no results: give the results.jsonl of mre evaluate")
    rows = read_all(args.results, apart=args.side_by_side)
    bootstrap = Bootstrap(args.draws, args.seed)
    lines: list[str] = []
    if args.compare:
        first, second = args.compare
        lines += compare_lines(rows, first, second, bootstrap)
    if args.correlate is not None:
        lines += correlation_lines(*_judges(rows, args.correlate), bootstrap)
    if args.repeats:
        runs = [rows, *(read_results(path) for path in args.repeats)]
        lines += consistency_lines(runs)
    if args.agreement:
        lines += reliability_lines(read_ratings(args.agreement), rows, bootstrap)
    if not lines:
        lines = summary_lines(rows, bootstrap, types=args.types)
    for line in lines:
        print(f"    {plain(line)}" if line.startswith(" ") else plain(line))
    return 0


def _judges(rows: Sequence[Result], path: str) -> tuple[Sequence[Result], Sequence[Result]]:
    """The two sides of --correlate."""
    if path != _PEOPLE:
        return rows, read_results(path)
    people, others = select(rows, people=True), select(rows, people=False)
    if not people or not others:
        raise ConfigError(
            "--correlate without FILE: the results want both people's scores and a judge's"
        )
    return people, others
