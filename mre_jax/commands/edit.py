"""`mre edit PHOTO PROMPT -o OUT`: one photo, or with `--sweep` a grid over rewards."""

import argparse

from mre_jax.commands.options import add_options, read_options
from mre_jax.editing.spec import EditSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre edit`."""
    add_options(parser, EditSpec)


def run(args: argparse.Namespace) -> int:
    """Edits the photo and names what was written."""
    spec = read_options(EditSpec, args)

    from mre_jax.editing.edit_photo import edit_photo

    picture = edit_photo(spec, progress=True)
    print(f"{spec.out}: {picture.width}x{picture.height}")
    return 0
