"""`mre evaluate imgedit`: ImgEdit-Bench by a judge, whichever of its parts the file holds.

Edits are called by the key, "1082.png". The number of the basic part is the mean of three scores
from 1 to 5, by type and over the types; that of the UGE part one score from 1 to 5.

A session of the multi-turn part is edited turn by turn, and its last result is judged; of others'
edits that is "1.png", or "1-3.png" where every turn has a picture. The benchmark's authors have
people judge this part (`--judge human:FILE`), since the models they tried could not.
"""

import argparse
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from mre_jax.commands.suite_options import add_judge, add_system
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.editor import Editor, Scores
from mre_jax.evaluation.run_edits import evaluate_by_judge, print_summary
from mre_jax.evaluation.statistics.summary import macro_lines
from mre_jax.evaluation.suites.imgedit_file import BASIC, MULTI, UGE, Part, read_part
from mre_jax.judges.picture import AS_IS

PROMPTS = {BASIC: "imgedit-ours", UGE: "imgedit-uge-ours", MULTI: "imgedit-ours"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="JSON file of the basic, UGE or multi-turn edits")
    parser.add_argument(
        "--originals",
        help="folder of its pictures (beside the file: singleturn of the basic part, else its own)",
    )
    add_system(parser)
    add_judge(parser, default="those of the part", pictures=AS_IS)


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and has them judged."""
    part = read_part(args.data, args.originals, args.out)
    args.pack = args.pack or PROMPTS[part.suite]
    if part.suite == MULTI:
        edit = functools.partial(edit_in_turns, part.turns)
        rows = evaluate_by_judge(args, part.suite, part.cases, names=_last_names(part), edit=edit)
    else:
        rows = evaluate_by_judge(args, part.suite, part.cases)
    print_summary(rows, args.out)
    if part.suite == BASIC:
        for line in macro_lines(rows):
            print(line)
    return 0


def edit_in_turns(
    turns: Mapping[str, Sequence[str]],
    editor: Editor,
    cases: Sequence[Case],
    folder: Path,
    reward: Scores | None,
) -> dict[str, Path]:
    """Edits what each turn before came to; returns the last results by case id.

    A case that a turn could not be made of is left out.

    Args:
        turns: the instructions of each case by its id.
        editor, cases, folder, reward: as `Editor.edit`; each turn has a folder of its own.
    """
    last = {case.id: case.original for case in cases}
    for number in range(1, max(map(len, turns.values())) + 1):
        goes_on = [case for case in cases if len(turns[case.id]) >= number and case.id in last]
        made = editor.edit(
            [
                dataclasses.replace(
                    case,
                    id=f"{case.id}-{number}",
                    instruction=turns[case.id][number - 1],
                    original=last.pop(case.id),
                )
                for case in goes_on
            ],
            folder / f"turn-{number}",
            reward,
        )
        named = {case.id: f"{case.id}-{number}" for case in goes_on}
        last |= {id_: made[name] for id_, name in named.items() if name in made}
    return last


def _last_names(part: Part) -> dict[str, list[str]]:
    """What the picture of a session may be called: by its key, or its last turn besides."""
    return {
        key: [key, *(f"{key}{mark}{len(texts)}" for mark in "-_/")]
        for key, texts in part.turns.items()
    }
