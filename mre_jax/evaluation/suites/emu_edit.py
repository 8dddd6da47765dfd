"""`mre evaluate emu-edit`: Emu Edit's test set, which has captions and no true edits.

clip_direction   whether the picture moved as its caption did; a pair of equal captions, which have
                 no direction, has no value
clip_i, dino     edited beside original picture
clip_t           edited picture and its caption
l1               edited beside original picture
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from mre_jax.commands.suite_options import add_system
from mre_jax.evaluation.measuring import Measured, add_networks, load_clip, load_dino
from mre_jax.evaluation.run_edits import make_edits, opened, print_summary, rows_of
from mre_jax.evaluation.suites.case_table import Columns, read_cases, read_rows

SUITE = "emu-edit"
COLUMNS = Columns(
    id=("hash", "id", "idx"),
    instruction=("instruction",),
    picture=("image",),
    kind=("task",),
    captions={"original": ("input_caption",), "edited": ("output_caption",)},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument(
        "data", help="parquet files of emu_edit_test_set, or a .jsonl of its columns"
    )
    parser.add_argument("--split", default="test", help="of the parquet files (%(default)s)")
    add_system(parser)
    add_networks(parser, "clip", "dino")


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and measures them."""
    pictures = Path(args.out) / "originals" / SUITE
    cases = read_cases(read_rows(args.data, args.split), args.data, COLUMNS, pictures)
    clip, dino = load_clip(args), load_dino(args)
    with opened(args.out) as results:
        for made, edited in make_edits(args, SUITE, cases):
            measured = Measured(made, cases, edited, results)
            measured.add_pixels(measured.originals, ("l1",))
            if clip is not None:
                before, after = measured.captions("original"), measured.captions("edited")
                direction = clip.direction(measured.originals, measured.edited, before, after)
                measured.add("clip_direction", _moved(direction, before, after), clip.measure)
                similar = clip.clip_i(measured.edited, measured.originals)
                measured.add("clip_i", similar, clip.measure)
                measured.add("clip_t", clip.clip_t(measured.edited, after), clip.measure)
            if dino is not None:
                similar = dino.similarity(measured.edited, measured.originals)
                measured.add("dino", similar, dino.measure)
        rows = rows_of(results, SUITE, args.system)
    print_summary(rows, args.out)
    return 0


def _moved(
    direction: Iterable[float], before: Sequence[str], after: Sequence[str]
) -> list[float | None]:
    """The direction of every pair whose captions differ; says how many do not."""
    pairs = list(zip(direction, before, after, strict=True))
    equal = sum(a.split() == b.split() for _, a, b in pairs)
    if equal:
        print(f"clip_direction: {equal} of {len(pairs)} pairs have equal captions and are left out")
    return [None if a.split() == b.split() else value for value, a, b in pairs]
