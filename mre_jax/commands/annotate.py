"""`mre annotate DATA --judge ... --out JOURNAL`: have a judge score every edit of a set.

    mre annotate toy --judge toy --out toy.jsonl --rewards RewardEdit.json
    mre annotate triplets --judge openai:gpt-4o-2024-08-06 --out run.jsonl --max-usd 50 --dry-run
    mre annotate --out run.jsonl --rewards RewardEdit.json --charts charts

Run the same command again to go on after a stop: what the journal answers is not asked again. The
last line needs neither data nor judge. The key of a model is read from OPENAI_API_KEY, or from the
variable that the judge's option key_name names. Instructions and pictures are sent to the model's
server, and nowhere else. Beside JOURNAL lies JOURNAL.pictures.jsonl, hashes of encoded pictures.
"""

import argparse
import dataclasses
import sys

from mre_jax.annotation.annotate import AnnotateSpec, annotate, estimate
from mre_jax.commands.options import add_options, read_options
from mre_jax.data.bad_examples import BadExamplesError, report_bad
from mre_jax.data.sources import parse_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre annotate`."""
    add_options(parser, AnnotateSpec)
    parser.add_argument(
        "--dry-run", action="store_true", help="print requests, tokens, bytes, batches and price"
    )


def run(args: argparse.Namespace) -> int:
    """Asks what the journal does not answer yet, then sums it up."""
    spec = read_options(AnnotateSpec, args)
    texts = [f"{name}={value}" for name, value in spec.options.items()]
    spec = dataclasses.replace(spec, options=parse_options(spec.source, texts))
    try:
        if args.dry_run:
            estimate(spec, log=print)
        else:
            print(annotate(spec, log=print))
    except BadExamplesError as error:
        for line in report_bad(error.bad, spec.out):
            print(line, file=sys.stderr)
        raise
    return 0
