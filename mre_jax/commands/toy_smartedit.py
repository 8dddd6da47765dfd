"""`mre toy-smartedit`: make the small SmartEdit of the toy world from its small editor.

Run again after a kill it goes on where it was.
"""

import argparse
from pathlib import Path

from mre_jax.commands.options import add_options, read_options
from mre_jax.io.devices import keep_programs
from mre_jax.toyworld.smartedit.pretrain import pretrain
from mre_jax.toyworld.smartedit.recipe import SmartEditRecipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre toy-smartedit`, one for each number of the recipe."""
    parser.add_argument("--out", type=Path, required=True, help="folder for the editor")
    add_options(parser, SmartEditRecipe)


def run(args: argparse.Namespace) -> int:
    """Makes the SmartEdit and prints its scores."""
    # On one device: over several, XLA's CPU has hung in the reductions of a plain jit.
    keep_programs()
    scores = pretrain(read_options(SmartEditRecipe, args), args.out)
    print(f"{args.out}: {' '.join(f'{name} {value:.2f}' for name, value in scores.items())}")
    return 0
