"""`mre sample ITEMS --out DIR`: a list of edits, in batches over all devices, resumable."""

import argparse
import dataclasses
import importlib.metadata

from mre_jax.commands import edit_options as arguments
from mre_jax.editing.items import read_items
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.request import EditConditions
from mre_jax.editing.size import parse_size
from mre_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre sample`."""
    parser.add_argument(
        "items", help='JSON lines: {"id": "dog-snow", "image": "dog.jpg", "prompt": "make it snow"}'
    )
    parser.add_argument("--out", required=True, help="folder of pictures and results.jsonl")
    parser.add_argument(
        "--batch-size", type=int, default=4, help="edits at a time on each device (%(default)s)"
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="do every N-th item from the I-th, counted from 0 (by default this host's of all)",
    )
    arguments.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Checks the list, then loads the model and works through it."""
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size} is not a positive number")
    size = parse_size(args.size)
    settings = arguments.settings(args)
    shard = None if args.shard is None else parse_shard(args.shard)
    items = read_items(args.items, EditConditions(**arguments.request_fields(args)))

    import jax

    from mre_jax.editing.batch import sample

    pipeline = arguments.load_pipeline(args).to_devices()
    folder = OutputFolder(args.out, shard or (jax.process_index(), jax.process_count()))
    batch_size = args.batch_size * pipeline.device_count
    run_settings = {
        "checkpoint": pipeline.checkpoint,
        **dataclasses.asdict(settings),
        "size": args.size,
        "resolution": args.resolution,
        "dtype": args.dtype,
        "attention": args.attention,
        "batch_size": args.batch_size,
        "platform": jax.default_backend(),
    }
    with folder.opened(run_settings, _versions()):
        done = sample(
            pipeline,
            items,
            folder,
            settings,
            size=size,
            resolution=args.resolution,
            batch_size=batch_size,
            checkpoint=pipeline.checkpoint,
        )
    print(f"{args.out}: {done} edits made, {len(items)} items in the list")
    return 0


def parse_shard(text: str) -> tuple[int, int]:
    """Reads "I/N".

    Raises:
        ConfigError: unless 0 <= I < N.
    """
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        index, count = int(parts[0]), int(parts[1])
        if index < count:
            return index, count
    raise ConfigError(f"--shard {text!r}: want I/N with I from 0 to N-1, as 0/4")


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("mre_jax", "jax", "flax")}
