"""`mre data JOB`: is a prepared set whole, what is in it, and caching what encoders say of it."""

import argparse
import dataclasses
import json

from etils import epath
from tqdm import tqdm

from mre_jax.commands import data_cache as cache_command
from mre_jax.data.records.manifest import load_manifest
from mre_jax.data.stats import collect, token_counter
from mre_jax.data.stats_charts import write_charts
from mre_jax.data.verify import verify
from mre_jax.errors import DataError
from mre_jax.io.files import write_atomically


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre data`."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    job = jobs.add_parser("verify", help="read every record; exit 65 if anything is damaged")
    job.add_argument("folder", metavar="DIR", help="of mre prepare")
    job.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    job.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode every picture too",
    )
    job.add_argument("--workers", type=int, default=1, help="processes (%(default)s)")
    job = jobs.add_parser("stats", help="counts, sizes, scores, lengths and truncation")
    job.add_argument("folder", metavar="DIR", help="of mre prepare")
    job.add_argument("--tokenizer", metavar="FOLDER", help="count its tokens, not only words")
    job.add_argument("--out", metavar="DIR", help="also write stats.json, scores.png and words.png")
    job = jobs.add_parser("cache", help="write the set anew, with latents and text states in it")
    cache_command.add_arguments(job)


def run(args: argparse.Namespace) -> int:
    """Does the job that the arguments name."""
    jobs = {"verify": _verify, "stats": _stats, "cache": cache_command.run}
    return jobs[args.job](args)


def _verify(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.folder)
    with tqdm(total=manifest.count, unit="record", desc="verify", disable=None) as bar:
        damages = []
        found = verify(args.folder, images=args.images, progress=bar.update, workers=args.workers)
        for damage in found:
            damages.append(damage)
            if not args.json:
                bar.write(str(damage))
    if args.json:
        report = {
            "folder": str(args.folder),
            "ok": not damages,
            "shards": len(manifest.shards),
            "records": manifest.count,
            "damages": [dataclasses.asdict(damage) for damage in damages],
        }
        print(json.dumps(report, indent=1))
    else:
        state = f"{len(damages)} damages" if damages else "all whole"
        print(f"{args.folder}: {len(manifest.shards)} shards, {manifest.count} records: {state}")
    return DataError.exit_code if damages else 0


def _stats(args: argparse.Namespace) -> int:
    count_tokens = token_counter(args.tokenizer) if args.tokenizer else None
    stats = collect(args.folder, count_tokens)
    print(stats)
    if args.out:
        charts = write_charts(args.out, stats)
        counts = epath.Path(args.out) / "stats.json"
        write_atomically(counts, json.dumps(stats.to_dict(), indent=1, ensure_ascii=False) + "\n")
        for path in (counts, *charts):
            print(f"wrote {path}")
    return 0
