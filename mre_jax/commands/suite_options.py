"""The options that the suites of `mre evaluate` share."""

import argparse

from mre_jax.commands.judge_options import add_judge_arguments
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, AS_ORIGINAL, AS_RELEASED
from mre_jax.evaluation.preset import PRESETS
from mre_jax.judges.packs.pack import OFFICIAL, PACKS

PRESET = "as --preset"
"""Stands for the preset's size among the options."""


def add_system(parser: argparse.ArgumentParser) -> None:
    """Whose edits are evaluated: a checkpoint's, or a folder of anybody's."""
    from mre_jax.commands import edit_options as arguments

    parser.add_argument("--out", required=True, help="folder of results.jsonl and of the edits")
    system = parser.add_argument_group("system")
    system.add_argument("--system", required=True, help='its name in tables, as "InsPix2Pix"')
    system.add_argument(
        "--images", help="folder of its edits, named as the items, instead of --model"
    )
    system.add_argument(
        "--condition", default="", help='with --images: the reward they were asked for, as "5,5,5"'
    )
    system.add_argument(
        "--allow-missing",
        action="store_true",
        help="go on without edits that --images lacks or --model cannot make; their rows say so",
    )
    system.add_argument(
        "--rewards", help="a sweep: 0,3,5 asks for 0,0,0 and 3,3,3 and 5,5,5; 5/0/0 for single ones"
    )
    system.add_argument(
        "--reward-words",
        metavar="FILE",
        help="with --rewards: JSON of the text that goes with each score, by perspective "
        '("None" for every score without)',
    )
    system.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="paper",
        help="sizes, pictures and prompts as the paper says or the released code does "
        "(%(default)s)",
    )
    system.add_argument(
        "--batch-size", type=int, default=4, help="edits at a time on each device (%(default)s)"
    )
    arguments.add_arguments(parser)
    parser.set_defaults(size=PRESET)


def add_judge(
    parser: argparse.ArgumentParser,
    *,
    pack: str | None = None,
    default: str = "those of the preset",
    pictures: str | None = None,
) -> None:
    """Who judges, and how it is asked.

    Args:
        pack: the suite's prompts; None leaves them open.
        default: what is taken then, in words.
        pictures: how the suite sends pictures; None leaves it to the preset.
    """
    add_judge_arguments(parser)
    asked = parser.add_argument_group("what the judge is asked")
    asked.add_argument(
        "--pack",
        default=pack,
        help=f"prompts: {', '.join(PACKS)}, a .toml file, or {OFFICIAL}PATH of your copy of the "
        f"authors' own ({pack or default})",
    )
    asked.add_argument(
        "--pictures",
        default=pictures,
        help=f"how they are sent: {AS_EDITED}, {AS_RELEASED}, {AS_ORIGINAL}, as-is, "
        f"jpeg:QUALITY[:HEIGHT] ({pictures or 'as the preset says'})",
    )
