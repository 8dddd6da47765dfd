"""`mre evaluate gedit`: GEdit-Bench, by a judge in the manner of VIEScore.

The judge gives semantic consistency (`sc`) and perceptual quality (`pq`), each the smaller of two
numbers from 0 to 10; `overall` is sqrt(sc pq) of the edit. The benchmark's number is the mean over
its groups of their means, in each language by itself, of all edits and of its intersection subset
(those that every system of its paper made). As its script does, the edit is sent at the size of the
original (`sent_pictures.AS_ORIGINAL`).

The default prompts are in our words. For numbers to be held against published ones, give the
authors' own: --pack official:FOLDER, where FOLDER is GEdit-Bench of your copy of Step1X-Edit.
"""

import argparse
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mre_jax.commands.suite_options import add_judge, add_system
from mre_jax.data.triplets import safe_name
from mre_jax.errors import ConfigError
from mre_jax.evaluation.edits.sent_pictures import AS_ORIGINAL
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.run_edits import evaluate_by_judge, opened, print_summary
from mre_jax.evaluation.statistics.summary import macro_lines
from mre_jax.evaluation.suites.case_table import Columns, Where, first_cell, read_cases, read_rows
from mre_jax.evaluation.tables.formats import plain

SUITE = "gedit"
LANGUAGES = ("en", "cn", "all")
COLUMNS = Columns(
    id=("key", "id"),
    instruction=("instruction",),
    picture=("input_image_raw", "input_image", "source_image", "image"),
    kind=("task_type", "kind"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument(
        "data", help="Arrow or parquet files of GEdit-Bench, or a .jsonl of its columns"
    )
    parser.add_argument("--split", help="of the Arrow or parquet files")
    parser.add_argument(
        "--language", choices=LANGUAGES, default="en", help="of the instructions (%(default)s)"
    )
    add_system(parser)
    add_judge(parser, pack="viescore-ours", pictures=AS_ORIGINAL)


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and has them judged."""
    subsets: dict[str, set[str]] = {}
    rows = _in_language(read_rows(args.data, args.split), args.language, subsets)
    pictures = Path(args.out) / "originals" / SUITE
    cases = read_cases(rows, args.data, COLUMNS, pictures)
    names = {
        case.id: [
            case.id,
            *(
                f"{top}{case.kind}/{language}/{case.id}"
                for top in ("", "fullset/")
                for language in LANGUAGES[:2]
            ),
        ]
        for case in cases
    }
    judged = evaluate_by_judge(args, SUITE, cases, names=names)
    if not judged:
        return 0
    totals = overall(judged)
    with opened(args.out) as results:
        results.add(totals)
    judged = [row for row in judged if row.metric != "overall"] + totals
    print_summary(judged, args.out, types=False)
    for name, items in subsets.items():
        for line in macro_lines([row for row in judged if row.item in items]):
            print(f"{name}, {plain(line)}")
    return 0


def _in_language(
    rows: Iterable[Where], language: str, subsets: dict[str, set[str]]
) -> Iterator[Where]:
    """The rows in a language; `subsets` gets the items of each language and intersection."""
    others: Counter[str] = Counter()
    for where, row in rows:
        own = str(row.get("instruction_language") or language).lower()
        if language not in ("all", own):
            others[own] += 1
            continue
        name = safe_name(str(first_cell(row, COLUMNS.id)))
        subsets.setdefault(own, set()).add(name)
        if row.get("Intersection_exist"):
            subsets.setdefault(f"{own} intersection", set()).add(name)
        yield where, row
    for own, count in others.items():
        print(f"{SUITE}: {count} instructions in {own!r} are left out; --language {own} takes them")


def overall(rows: Sequence[Result]) -> list[Result]:
    """sqrt(sc pq) of every edit; of one that lacks a score, the status of that.

    Raises:
        ConfigError: if the prompts were others.
    """
    quality = {(row.condition, row.item): row for row in select(rows, metric="pq")}
    totals = []
    for row in select(rows, metric="sc"):
        other = quality.get((row.condition, row.item))
        if other is None:
            raise ConfigError("overall needs the perspectives sc and pq of the pack viescore-ours")
        bad = next((part for part in (row, other) if part.value is None), None)
        value = None
        if row.value is not None and other.value is not None:
            value = math.sqrt(row.value * other.value)
        totals.append(
            dataclasses.replace(
                row,
                metric="overall",
                value=value,
                passed=None,
                status=bad.status if bad else "ok",
                reason=bad.reason if bad else "",
                prompt_hash=f"{row.prompt_hash}+{other.prompt_hash}",
            )
        )
    if not totals:
        raise ConfigError("overall needs the perspectives sc and pq of the pack viescore-ours")
    return totals
