"""`mre report`: result files as one HTML page."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from mre_jax.commands.options import field_docs
from mre_jax.errors import ConfigError
from mre_jax.evaluation.provenance import side_by_side
from mre_jax.evaluation.results import Result, ResultsSpec, read_results, results_file
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.report.page import write_report
from mre_jax.report.pictures import BUDGET, PLACES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre report`."""
    parser.add_argument("results", nargs="+", help="files or folders of `mre evaluate`")
    parser.add_argument("--out", required=True, help="HTML file to write")
    parser.add_argument("--title", default="Evaluation of editors", help="(%(default)s)")
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help='two systems, as "reward 5,5,5" or by name; of two runs with the same systems, '
        'as "reward (RUN) 5,5,5"',
    )
    words = field_docs(ResultsSpec)["side_by_side"].removesuffix(".")
    parser.add_argument("--side-by-side", action="store_true", help=words)
    parser.add_argument(
        "--pictures",
        choices=PLACES,
        default="auto",
        help="inside the page, made smaller to fit; beside it, as they are, in a folder of its "
        "name and _files; auto: there if they do not fit at 512 pixels (%(default)s)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET / 2**20,
        metavar="MIB",
        help="for all pictures in the page together (%(default)g)",
    )
    parser.add_argument(
        "--draws", type=int, default=Bootstrap.draws, help="of the bootstrap (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the page and says what is in it."""
    if not args.budget > 0:
        raise ConfigError(f"--budget is {args.budget:g}; it must be above 0")
    root, rows = read_runs(args.results, apart=args.side_by_side)
    written = write_report(
        args.out,
        rows,
        root=root,
        title=args.title,
        compare=tuple(args.compare) if args.compare else None,
        pictures=args.pictures,
        budget=int(args.budget * 2**20),
        bootstrap=Bootstrap(args.draws),
        apart=args.side_by_side,
    )
    for note in written.notes:
        print(note)
    size = f"{written.bytes / 2**20:.1f} MiB"
    beside = f", and {written.beside / 2**20:.1f} MiB in {written.folder}" if written.folder else ""
    print(f"{args.out}: {written.items} items, {written.pictures} pictures, {size}{beside}")
    return 0


def read_runs(paths: Sequence[str | Path], *, apart: bool = False) -> tuple[Path, list[Result]]:
    """The rows of several files, and the folder that all their pictures are relative to.

    Files that hold different systems, suites or metrics are put together. Where two hold the same,
    they are two runs, and each run's systems are told apart by the name of its file or folder.

    Args:
        apart: rows of different settings get systems of different names; see
            `provenance.side_by_side`.

    Raises:
        DataError: as `read_results`.
        ConfigError: if a file is named twice, or lies in a bucket.
    """
    for path in paths:
        if "://" in str(path):
            raise ConfigError(
                f"{path}: pictures are sought beside the results; copy their folder to a local disk"
            )
    runs = [read_results(path) for path in paths]
    if apart:
        renamed = iter(side_by_side([row for run in runs for row in run]))
        runs = [[next(renamed) for _ in run] for run in runs]
    whole = [Path(results_file(path)).resolve() for path in paths]
    for place, path in enumerate(whole):
        if path in whole[:place]:
            raise ConfigError(f"{paths[place]}: named twice; name each file once")
    root = Path(os.path.commonpath([path.parent for path in whole]))
    keys = [row.key for run in runs for row in run]
    names = _run_names(whole, root) if len(set(keys)) < len(keys) else None
    rows = []
    for place, (path, run) in enumerate(zip(whole, runs, strict=True)):
        folder = Path(os.path.relpath(path.parent, root))
        suffix = f" ({names[place]})" if names else ""
        for row in run:
            rows.append(
                dataclasses.replace(
                    row,
                    system=f"{row.system}{suffix}",
                    original=_under(folder, row.original),
                    edited=_under(folder, row.edited),
                )
            )
    return root, rows


def _under(folder: Path, name: str) -> str:
    return os.path.normpath(folder / name) if name else ""  # one file has one name


def _run_names(paths: Sequence[Path], root: Path) -> list[str]:
    """The shortest names that differ: of the files, of their folders, or whole."""
    candidates = [
        [path.stem for path in paths],
        [path.parent.name for path in paths],
        [str(path.relative_to(root).with_suffix("")) for path in paths],
    ]
    return next((names for names in candidates if len(set(names)) == len(names)), candidates[-1])
