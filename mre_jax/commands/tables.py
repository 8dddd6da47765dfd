"""`mre tables RESULTS...`: the paper's tables from result rows."""

import argparse
from collections.abc import Sequence

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.provenance import add_side_by_side, comparable
from mre_jax.evaluation.results import Result, read_all, select
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.people_table import people_table
from mre_jax.evaluation.tables.fill import Source, build, render
from mre_jax.evaluation.tables.formats import WRITERS
from mre_jax.evaluation.tables.layout import LAYOUTS, layout
from mre_jax.io.files import write_atomically

Systems = dict[int, dict[str, Source]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre tables`."""
    parser.add_argument(
        "results", nargs="*", help="files or folders of `mre evaluate`, one or more"
    )
    parser.add_argument(
        "--table",
        type=int,
        action="append",
        metavar="N",
        help="which, 1 to 11; may be repeated (default: all that the results have something for)",
    )
    parser.add_argument("--format", choices=tuple(WRITERS), default="text")
    parser.add_argument("--paper", action="store_true", help="the paper's numbers beside ours")
    parser.add_argument("--intervals", action="store_true", help="with confidence intervals")
    parser.add_argument(
        "--row",
        action="append",
        default=[],
        metavar="N:LABEL=SYSTEM[@REWARD]",
        help='what fills a row, as "4:score+text=reward@5,5,5"; then only rows so named are shown. '
        "Labels of the rows: see --labels",
    )
    add_side_by_side(parser)
    parser.add_argument("--suite", help="the suite to take instead of each table's own")
    parser.add_argument(
        "--labels", action="store_true", help="print what the rows are called, and end"
    )
    parser.add_argument("--out", help="file to write instead of the terminal")


def run(args: argparse.Namespace) -> int:
    """Prints the tables, or writes them to one file."""
    numbers = args.table or list(LAYOUTS)
    if args.labels:
        print(_labels(numbers))
        return 0
    if not args.results:
        raise ConfigError("no results: give the results.jsonl of mre evaluate")
    systems = parse_rows(args.row)
    rows = read_all(args.results, apart=args.side_by_side)
    _check_systems(systems, rows)
    bootstrap = Bootstrap() if args.intervals else None
    if not args.table:
        numbers = [n for n in numbers if n in systems or _has_rows(n, rows, args.suite)]
        if not numbers:
            raise DataError(
                f"{', '.join(args.results)}: nothing for any table; the suites in it are "
                f"{', '.join(sorted({row.suite for row in rows}))}"
            )
    tables = [
        render(
            number,
            rows,
            args.format,
            systems=systems.get(number),
            paper=args.paper,
            intervals=bootstrap,
            suite=args.suite,
            apart=args.side_by_side,
        )
        for number in numbers
    ]
    if not args.table and comparable(select(rows, people=False)):
        people = people_table(rows, args.suite or "real-edit", bootstrap)
        tables += [WRITERS[args.format](people)] if people else []
    empty = [str(number) for number in LAYOUTS if number not in numbers]
    text = "\n".join(tables)
    if args.out:
        write_atomically(args.out, text)
    else:
        print(text, end="")
    if not args.table and empty and args.format == "text":
        print(f"\nNo results for Tables {', '.join(empty)}.")
    return 0


def parse_rows(texts: Sequence[str]) -> Systems:
    """Reads "4:score+text=reward@5,5,5" into sources by table and label.

    Raises:
        ConfigError: if one is of another form, or a row is named twice.
    """
    systems: Systems = {}
    for text in texts:
        number, _, rest = text.partition(":")
        label, _, name = rest.partition("=")
        system, at, condition = name.rpartition("@") if "@" in name else (name, "", "")
        if not (number.isdigit() and label and system):
            raise ConfigError(f"--row {text!r}: want N:LABEL=SYSTEM or N:LABEL=SYSTEM@REWARD")
        rows = systems.setdefault(layout(int(number)).number, {})
        if label in rows:
            raise ConfigError(f"--row {text!r}: the row {label!r} is named twice")
        rows[label] = Source(system, condition if at else None)
    return systems


def _check_systems(systems: Systems, rows: Sequence[Result]) -> None:
    """Raises DataError if --row names a system, or a reward of one, that has no results."""
    known = {(row.system, row.condition): None for row in rows}
    for number, sources in systems.items():
        for label, source in sources.items():
            wanted = source.system, source.condition
            if not any(wanted in ((name, None), (name, reward)) for name, reward in known):
                name = "@".join(part for part in wanted if part)
                names = ", ".join(dict.fromkeys(f"{s}@{c}" if c else s for s, c in known))
                raise DataError(
                    f"--row {number}:{label}={name}: no results of {name!r}; there are {names}"
                )


def _has_rows(number: int, rows: Sequence[Result], suite: str | None) -> bool:
    """Whether the table would hold a number of ours as it is filled by default."""
    try:
        table = build(number, rows, suite=suite)
    except DataError:
        return True  # the error is the user's to see
    return any(cell.value is not None for row in table.rows for cell in row.cells)


def _labels(numbers: Sequence[int]) -> str:
    return "\n".join(
        f"{number}: {'; '.join(row.label for row in layout(number).rows)}" for number in numbers
    )
