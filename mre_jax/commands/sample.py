"""`mre sample ITEMS --out DIR`: a list of edits, in batches over all devices, resumable."""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.editing.spec import SampleSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre sample`."""
    add_options(parser, SampleSpec)


def run(args: argparse.Namespace) -> int:
    """Makes the edits and counts them."""
    spec = read_options(SampleSpec, args)

    from mre_jax.editing.sample import sample

    done = sample(spec)
    print(f"{spec.out}: {done.made} edits made, {done.items} items in the list")
    return 0
