"""`mre data JOB`: is a prepared set whole, what is in it, and caching what encoders say of it.

    mre data verify shards
    mre data stats shards --out charts
    mre data cache shards --model instruct-pix2pix --out cached --text

`cache` writes the shards anew, beside the old ones. Run the same command again to go on after a
stop; they come out the same, byte for byte.
"""

import argparse
import dataclasses
import json

from tqdm import tqdm

from mre_jax.commands.options import add_options, read_options
from mre_jax.data.prepare import CacheSpec, cache
from mre_jax.data.records.manifest import load_manifest
from mre_jax.data.stats import StatsSpec, describe, write_stats
from mre_jax.data.verify import VerifySpec, verify
from mre_jax.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre data`."""
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    job = jobs.add_parser("verify", help="read every record; exit 65 if anything is damaged")
    add_options(job, VerifySpec)
    job.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    job = jobs.add_parser("stats", help="counts, sizes, scores, lengths and truncation")
    add_options(job, StatsSpec)
    job.add_argument("--out", metavar="DIR", help="also write stats.json, scores.png and words.png")
    job = jobs.add_parser("cache", help="write the set anew, with latents and text states in it")
    add_options(job, CacheSpec)


def run(args: argparse.Namespace) -> int:
    """Does the job that the arguments name."""
    return {"verify": _verify, "stats": _stats, "cache": _cache}[args.job](args)


def _verify(args: argparse.Namespace) -> int:
    spec = read_options(VerifySpec, args)
    manifest, damages = load_manifest(spec.folder), []
    with tqdm(total=manifest.count, unit="record", desc="verify", disable=None) as bar:
        for damage in verify(spec, progress=bar.update):
            damages.append(damage)
            if not args.json:
                bar.write(str(damage))
    if args.json:
        report = {
            "folder": str(spec.folder),
            "ok": not damages,
            "shards": len(manifest.shards),
            "records": manifest.count,
            "damages": [dataclasses.asdict(damage) for damage in damages],
        }
        print(json.dumps(report, indent=1))
    else:
        state = f"{len(damages)} damages" if damages else "all whole"
        print(f"{spec.folder}: {len(manifest.shards)} shards, {manifest.count} records: {state}")
    return DataError.exit_code if damages else 0


def _stats(args: argparse.Namespace) -> int:
    stats = describe(read_options(StatsSpec, args))
    print(stats)
    for path in write_stats(args.out, stats) if args.out else ():
        print(f"wrote {path}")
    return 0


def _cache(args: argparse.Namespace) -> int:
    print(cache(read_options(CacheSpec, args)))
    return 0
