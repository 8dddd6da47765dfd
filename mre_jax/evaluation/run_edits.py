"""From the options of a suite to edits, one set for every reward that is asked for."""

import argparse
import contextlib
import itertools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mre_jax.commands.judge_options import budget_from, judge_from
from mre_jax.commands.suite_options import PRESET
from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.case import Case, Run
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.edits.edits_folder import Names, find_edits
from mre_jax.evaluation.edits.sent_pictures import check_pictures
from mre_jax.evaluation.judging import ask_about, judge_edits
from mre_jax.evaluation.preset import PRESETS
from mre_jax.evaluation.results import FILE, Result, ResultsFile, select
from mre_jax.evaluation.statistics.summary import summary_lines
from mre_jax.evaluation.tables.formats import plain
from mre_jax.io.files import locked
from mre_jax.judges.estimate import Estimate, answered_keys, estimate
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import OURS, PromptPack, load_pack

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor, Scores

Edits = Iterator[tuple[Run, Mapping[str, Path]]]


class Edit(Protocol):
    """Makes the edits of some cases, under one reward, in a folder."""

    def __call__(
        self, editor: "Editor", cases: Sequence[Case], folder: Path, reward: "Scores | None", /
    ) -> Mapping[str, Path]: ...


def edit_each(
    editor: "Editor", cases: Sequence[Case], folder: Path, reward: "Scores | None", /
) -> Mapping[str, Path]:
    """Each case by itself."""
    return editor.edit(cases, folder, reward)


def make_edits(
    args: argparse.Namespace,
    suite: str,
    cases: Sequence[Case],
    *,
    names: Names | None = None,
    edit: Edit = edit_each,
) -> Edits:
    """The run and the pictures by case id, for every reward.

    Args:
        args: of `arguments.add_system`.
        names: see `find_edits`.
        edit: makes the edits with --model.

    Raises:
        MreError: naming the option, picture or checkpoint that is wrong.
    """
    out = Path(args.out)
    if args.images:
        if args.rewards is not None:
            raise ConfigError(
                "--rewards makes edits with --model; name those of --images with "
                "--condition, one reward at a time"
            )
        edited = edits_named(args, cases, names)
        yield Run(suite, args.system, args.condition, "", out), edited
        return
    from mre_jax.evaluation.edits.editor import check_made, load_editor, parse_rewards

    rewards = [None] if args.rewards is None else parse_rewards(args.rewards)
    editor = load_editor(args, PRESETS[args.preset].size if args.size == PRESET else args.size)
    for reward in rewards:
        run = Run(suite, args.system, editor.condition(reward), editor.checkpoint, out)
        folder = out / "edits" / suite / run.name
        made = edit(editor, cases, folder, reward)
        check_made(made, folder)
        yield run, made


def edits_named(
    args: argparse.Namespace, cases: Sequence[Case], names: Names | None = None
) -> dict[str, Path]:
    """The pictures of --images by case id; see `find_edits`."""
    folder = fetched(args.images, args.out)
    return find_edits(folder, cases, names=names, allow_missing=args.allow_missing)


def evaluate_by_judge(
    args: argparse.Namespace,
    suite: str,
    cases: Sequence[Case],
    *,
    names: Names | None = None,
    targets: str = "",
    edit: Edit = edit_each,
) -> list[Result]:
    """Has the edits made and judged; returns the rows of this system.

    With --dry-run it prints what that would cost, and returns none.

    Args:
        args: of `arguments.add_system` and `add_judge`.
        names, edit: as `make_edits`.
        targets: if not empty, the cases' targets are judged too, as a system of this name.

    Raises:
        MreError: as `make_edits` and `judge_edits`.
    """
    preset = PRESETS[args.preset]
    pack = load_pack(args.pack or preset.pack)
    pictures = check_pictures(args.pictures or preset.pictures)
    if preset.note and not args.pack:
        print(preset.note, file=sys.stderr)
    if pack.name.endswith(OURS):
        print(f"{pack.name}: {pack.description}", file=sys.stderr)
    defaults = {**preset.settings, **pack.settings}
    judge = _judge(args, defaults)  # a missing key is found before hours of editing
    if args.dry_run:
        print(_estimate(args, judge, cases, names, pack, pictures))
        return []
    with opened(args.out) as results, Journal(Path(args.out) / "judge.jsonl") as journal:
        runs = make_edits(args, suite, cases, names=names, edit=edit)
        if targets:
            runs = itertools.chain([_targets(args, suite, cases, targets)], runs)
        for index, (run, edited) in enumerate(runs):
            if index and not isinstance(judge, HumanJudge):
                judge = _judge(args, defaults)  # the last run has closed its connections
            judge_edits(
                run,
                cases,
                edited,
                results,
                judge=judge,
                pack=pack,
                journal=journal,
                pictures=pictures,
                concurrency=args.concurrency,
                budget=budget_from(args),
                again=args.again,
            )
        people = isinstance(judge, HumanJudge)
        return select(rows_of(results, suite, args.system, targets), people=people)


def _judge(args: argparse.Namespace, defaults: Mapping[str, Any]) -> Judge:
    """The judge of the options; of a model what they leave open is as the prompts' authors had it.

    Args:
        defaults: JSON values by the name of the judge's option.
    """
    if (args.judge or "").startswith("openai"):
        texts = [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in defaults.items()
        ]
        args = argparse.Namespace(**{**vars(args), "judge_option": [*texts, *args.judge_option]})
    return judge_from(args)


@contextlib.contextmanager
def opened(out: str | Path) -> Iterator[ResultsFile]:
    """The results file of an output folder, for one process at a time.

    Raises:
        BusyError: if another process is at it.
        DataError: if the file is damaged.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock-evaluate"), ResultsFile(folder / FILE) as results:
        yield results


def rows_of(results: ResultsFile, suite: str, *systems: str) -> list[Result]:
    """What the file holds of some systems in one suite."""
    return [row for row in results.rows.values() if row.suite == suite and row.system in systems]


def _estimate(
    args: argparse.Namespace,
    judge: Judge,
    cases: Sequence[Case],
    names: Names | None,
    pack: PromptPack,
    pictures: str,
) -> Estimate:
    """What judging would take; edits that are not made yet are taken to be like their originals."""
    if args.images:
        edited = edits_named(args, cases, names)
    else:
        edited = {case.id: case.original for case in cases}
    asked = [case for case in cases if case.id in edited]
    found = ask_about(asked, edited, pack, pictures)
    return estimate(judge, found, answered_keys(Path(args.out) / "judge.jsonl"))


def _targets(
    args: argparse.Namespace, suite: str, cases: Sequence[Case], name: str
) -> tuple[Run, Mapping[str, Path]]:
    edited = {case.id: case.target for case in cases if case.target is not None}
    return Run(suite, name, "", "", Path(args.out)), edited


def print_summary(rows: Sequence[Result], out: str | Path, *, types: bool = True) -> None:
    """Prints means, accuracies and coverage, by type too; nothing if there are no rows.

    Raises:
        ConfigError: if the money did not suffice for all rows.
        BusyError: if some had no answer.
        DataError: if nothing has a value, or nothing in one of the perspectives that were judged.
    """
    if not rows:
        return
    for line in summary_lines(rows, types=types):
        print(plain(line) if not line.startswith(" ") else f"    {plain(line)}")
    print(f"{Path(out) / FILE}: {len(rows)} results of {plain(rows[0].system)}")
    statuses = [row.status for row in rows]
    if stopped := statuses.count("budget_stopped"):
        raise ConfigError(f"--max-usd: {stopped} scores are not covered; give more to go on")
    if failed := statuses.count("http_error"):
        raise BusyError(f"{failed} scores had no answer; run it again to ask once more")
    _check_values(rows)


def _check_values(rows: Sequence[Result]) -> None:
    """Raises DataError if a judged metric of a system has no value at all, or nothing has one."""
    series: dict[tuple[str, ...], list[Result]] = {}
    for row in rows:
        if row.prompt_hash:
            series.setdefault((row.system, row.condition, row.metric), []).append(row)
    for found in [*series.values(), list(rows)]:
        statuses = Counter(row.status for row in found)
        if not statuses["ok"]:
            last = found[-1]
            counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
            raise DataError(
                f"{last.metric}: no edit of {last.system} has a value ({counts}); the last: "
                f"{last.reason[:200]}"
            )
