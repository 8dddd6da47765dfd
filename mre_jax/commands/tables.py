"""`mre tables RESULTS...`: the paper's tables from result rows."""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.evaluation.tables.formats import WRITERS
from mre_jax.evaluation.tables.layout import LAYOUTS, layout
from mre_jax.evaluation.tables.spec import TablesSpec
from mre_jax.io.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre tables`."""
    add_options(parser, TablesSpec)
    parser.add_argument("--format", choices=tuple(WRITERS), default="text")
    parser.add_argument(
        "--labels", action="store_true", help="print what the rows are called, and end"
    )
    parser.add_argument("--out", help="file to write instead of the terminal")


def run(args: argparse.Namespace) -> int:
    """Prints the tables, or writes them to one file."""
    spec = read_options(TablesSpec, args)
    if args.labels:
        for number in spec.tables or LAYOUTS:
            print(f"{number}: {'; '.join(row.label for row in layout(number).rows)}")
        return 0
    tables = spec.build()
    text = "\n".join(WRITERS[args.format](table) for table in tables)
    if args.out:
        write_atomically(args.out, text)
    else:
        print(text, end="")
    shown = {table.layout.number for table in tables}
    empty = [str(n) for n, plan in LAYOUTS.items() if plan.kind == "Table" and n not in shown]
    if not spec.tables and empty and args.format == "text":
        print(f"\nNo results for Tables {', '.join(empty)}.")
    return 0
