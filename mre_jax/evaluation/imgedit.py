"""`mre evaluate imgedit`: the basic part of ImgEdit-Bench, by a judge.

    basic_edit.json      {"1082": {"id": "animal/000.jpg", "prompt": ..., "edit_type": ...}}
    singleturn/          the original pictures; another folder is named by --originals

Edits are called by the key, "1082.png". The number is the mean of three scores from 1 to 5, by
type and over the types.
"""

import argparse
from pathlib import Path
from typing import Any

from mre_jax.data.rewards import read_json
from mre_jax.errors import DataError
from mre_jax.evaluation.arguments import add_judge, add_system
from mre_jax.evaluation.case import Case, check_cases, safe_name
from mre_jax.evaluation.run_edits import evaluate_by_judge, print_summary
from mre_jax.evaluation.summary import macro_lines

SUITE = "imgedit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="the JSON file of the basic edits")
    parser.add_argument("--originals", help="folder of its pictures (singleturn, beside the file)")
    add_system(parser)
    add_judge(parser, pack="imgedit")


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and has them judged."""
    originals = args.originals or Path(args.data).parent / "singleturn"
    cases = read_basic(args.data, Path(originals))
    rows = evaluate_by_judge(args, SUITE, cases)
    print_summary(rows, args.out)
    for line in macro_lines(rows):
        print(line)
    return 0


def read_basic(path: Path | str, originals: Path) -> list[Case]:
    """The cases of the file.

    Raises:
        DataError: naming the entry of another form, the missing picture, or an empty set.
    """
    path = Path(path)
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise DataError(f"{path}: want an object of edits by key")
    return check_cases([_case(key, entry, path, originals) for key, entry in entries.items()], path)


def _case(key: str, entry: Any, path: Path, originals: Path) -> Case:
    for name in ("id", "prompt", "edit_type"):
        if not isinstance(entry, dict) or not isinstance(entry.get(name), str):
            raise DataError(f"{path}: entry {key!r}: no text {name!r}")
    return Case(
        id=safe_name(key),
        group=entry["id"],
        kind=entry["edit_type"],
        instruction=entry["prompt"],
        original=originals / entry["id"],
    )
