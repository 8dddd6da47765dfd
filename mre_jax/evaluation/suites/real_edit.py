"""`mre evaluate real-edit`: three perspectives by a judge (Tables 1, 3, 4, 5, 6, 8, 10 and 11)."""

import argparse

from mre_jax.commands.suite_options import add_judge, add_system
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.run_edits import evaluate_by_judge, print_summary
from mre_jax.evaluation.suites.real_edit_folder import SUITE, read_real_edit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="folder of images/ and instructions.json")
    add_system(parser)
    add_judge(parser)


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and has them judged."""
    rows = evaluate_by_judge(args, SUITE, read_real_edit(fetched(args.data, args.out)))
    print_summary(rows, args.out)
    return 0
