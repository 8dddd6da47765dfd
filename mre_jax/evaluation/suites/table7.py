"""`mre evaluate table7`: CLIP following and preserving, FID and KID.

The paper does not say which features its FID is of: all four widths are measured. The reference
set has each photo once, however often it is edited: repeated ones would add k(x, x) to KID's mean
over pairs, which is unbiased only without them. FID hardly minds, since its mean is the same and
its covariance is multiplied by (n - 1) / (n - 1/7) if each of n photos stands seven times.
"""

import argparse

from mre_jax.commands.suite_options import add_system
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.measuring import (
    Measured,
    add_networks,
    check_networks,
    compare_sets,
    load_clip,
    load_inception,
)
from mre_jax.evaluation.run_edits import make_edits, opened, print_summary, rows_of
from mre_jax.evaluation.suites.real_edit_folder import read_real_edit

SUITE = "table7"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="folder of images/ and instructions.json")
    add_system(parser)
    add_networks(parser, "clip", "inception")


def run(args: argparse.Namespace) -> int:
    """Makes the edits, or takes them, and measures them."""
    check_networks(args, "clip", "inception")
    cases = read_real_edit(fetched(args.data, args.out))
    clip, inception = load_clip(args), load_inception(args)
    with opened(args.out) as results:
        for made, edited in make_edits(args, SUITE, cases):
            measured = Measured(made, cases, edited, results)
            if clip is not None:
                texts = [case.instruction for case in measured.cases]
                following = clip.following(measured.edited, texts)
                measured.add("clip_following", following, clip.measure)
                preserving = clip.preserving(measured.originals, measured.edited)
                measured.add("clip_preserving", preserving, clip.measure)
            if inception is not None:
                scores = compare_sets(inception, measured.photos, measured.edited)
                measured.add_set(scores, inception.measure)
        rows = rows_of(results, SUITE, args.system)
    print_summary(rows, args.out)
    return 0
