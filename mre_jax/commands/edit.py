"""`mre edit PHOTO PROMPT -o OUT`: one photo, or with `--sweep` a grid over rewards."""

import argparse
import sys
from pathlib import Path

from mre_jax.commands import edit_options as arguments
from mre_jax.commands.options import parse_numbers
from mre_jax.editing import grid
from mre_jax.editing.request import EditRequest
from mre_jax.editing.size import fit, parse_size, target_size
from mre_jax.errors import ConfigError, DataError
from mre_jax.io.image import read_image, write_png


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre edit`."""
    parser.add_argument("photo", help="the picture to edit")
    parser.add_argument("prompt", help='what to do to it: "make it snow"')
    parser.add_argument("-o", "--out", required=True, help="PNG to write")
    parser.add_argument(
        "--sweep",
        metavar="R,R,...",
        help="instead of one edit a grid: the three scores together, then each alone with the "
        "others at --reward, at each of these values (0,3,5)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=1, help="edits of a sweep at a time (%(default)s)"
    )
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Checks everything that can be checked, then loads the model and edits."""
    if Path(args.out).suffix.lower() != ".png":
        raise ConfigError(f"--out {args.out}: edits are written as PNG; name it *.png")
    if not Path(args.out).absolute().parent.is_dir():
        raise DataError(f"--out {args.out}: no such folder")
    if Path(args.out).is_dir():
        raise DataError(f"--out {args.out}: a folder, where a picture is to be written")
    size = parse_size(args.size)
    settings = arguments.settings(args)
    fields = arguments.request_fields(args)
    sweep = None if args.sweep is None else parse_numbers(args.sweep, "--sweep")
    photo = read_image(args.photo)
    photo = fit(photo, target_size(photo.size, size, args.resolution))
    request = EditRequest(prompt=args.prompt, **fields)
    requests = [request] if sweep is None else grid.requests(request, sweep)

    pipeline = arguments.load_pipeline(args)
    pipeline.check(requests, settings)
    steps = f"{settings.num_inference_steps} steps at {photo.width}x{photo.height}"
    print(f"editing in {steps}; the first time at a size it is compiled", file=sys.stderr)
    images = pipeline.edit(
        requests, [photo] * len(requests), settings, batch_size=args.batch_size, progress=True
    )
    picture = images[0] if sweep is None else grid.draw(request, photo, sweep, images)
    write_png(picture, args.out)
    print(f"{args.out}: {picture.width}x{picture.height}")
    return 0
