"""`mre evaluate SUITE ... --out DIR`: benchmarks of editors, one file a suite.

    DIR/results.jsonl      a row for every value, of all systems and suites; see `results`
    DIR/judge.jsonl        what the judge said; nothing in it is asked or paid for again (beside it
                           judge.jsonl.pictures.jsonl, hashes of the pictures that were sent)
    DIR/edits/             the edits of checkpoints
    DIR/originals/         pictures of benchmarks that are tables
    DIR/fetched/           folders of pictures that lie in a bucket

A run that was stopped is finished by the same command.
"""

import argparse
import importlib

from mre_jax.errors import ConfigError
from mre_jax.evaluation.edits.bucket import check_local

SUITES = {
    "real-edit": ("real_edit", "three perspectives by a judge, on photos or the toy world"),
    "magicbrush": ("magicbrush", "MagicBrush's test set, single and multi turn"),
    "table7": ("table7", "CLIP following and preserving, FID, KID"),
    "emu-edit": ("emu_edit", "Emu Edit's test set: CLIP direction, DINO, L1"),
    "gedit": ("gedit", "GEdit-Bench by a judge"),
    "imgedit": ("imgedit", "ImgEdit-Bench by a judge"),
    "challenging": ("challenging", "training examples of low scores, made anew"),
    "build-benchmark": ("build_benchmark", "instructions for photos of yours, to be verified"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre evaluate`: those of the suite that is named."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["suites:", *(f"  {name:<17}{text}" for name, (_, text) in SUITES.items())]
    )
    parser.add_argument("suite", help="one of the suites below")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="mre evaluate SUITE --help tells them"
    )


def run(args: argparse.Namespace) -> int:
    """Runs one suite.

    Raises:
        ConfigError: if there is no such suite, or --out is in a bucket.
    """
    if args.suite not in SUITES:
        raise ConfigError(f"suite {args.suite!r}: want one of {', '.join(SUITES)}")
    name, text = SUITES[args.suite]
    suite = importlib.import_module(f"mre_jax.evaluation.suites.{name}")
    parser = argparse.ArgumentParser(prog=f"mre evaluate {args.suite}", description=text)
    suite.add_arguments(parser)
    options = parser.parse_args(args.options)
    check_local(options.out)
    return suite.run(options)
