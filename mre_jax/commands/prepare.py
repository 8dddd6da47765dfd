"""`mre prepare SOURCE PATH --out DIR`: a public set, with its rewards, as TFRecord shards.

    mre prepare instruct_pix2pix toy/triplets --rewards toy/RewardEdit.json --out shards
    mre prepare magicbrush MagicBrush/data --option split=train --out magicbrush

Run the same command again to go on after a stop; the shards come out the same, byte for byte.
"""

import argparse
import functools
import hashlib
import inspect
import json
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from mre_jax.commands.data_cache import add_cache_options, make_cache_maker, report
from mre_jax.commands.model_options import add_base, add_lora
from mre_jax.data.bad_examples import (
    BadExample,
    BadExamplesError,
    allowed_bad,
    parse_skip_bad,
    report_bad,
)
from mre_jax.data.join import THRESHOLD, Judged, join
from mre_jax.data.records.manifest import SEVERAL, SKIPPED
from mre_jax.data.records.shards import SHARD_BYTES, plan_shards
from mre_jax.data.records.writer import Spread, prepare
from mre_jax.data.sources import SOURCES, open_source
from mre_jax.data.sources.selection import Check, parse_shard, select
from mre_jax.data.sources.source import Source
from mre_jax.data.workers import by_beam, by_processes
from mre_jax.errors import ConfigError
from mre_jax.reward.file import read_rewards

_FORMAT = 1
_UNSAID = "seeds", "one"
"""The option that an earlier version had for good, and so did not write down."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre prepare`."""
    parser.add_argument("source", help=f"layout of the set: {', '.join(SOURCES)}")
    parser.add_argument("path", help="its file or folder, which may be gs://")
    parser.add_argument("--out", required=True, help="folder to fill, which may be gs://")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the layout's reader, as split=train; may be repeated",
    )
    rewards = parser.add_argument_group("rewards")
    rewards.add_argument(
        "--rewards", metavar="FILE", help="as RewardEdit_20K.json; what it judges is the set"
    )
    rewards.add_argument(
        "--reward-key",
        choices=("auto", "folder", "row"),
        default="auto",
        help="what the keys of the rewards are",
    )
    rewards.add_argument(
        "--join-threshold", type=float, default=THRESHOLD, help="least share that must join"
    )
    rewards.add_argument(
        "--keep-unjudged", action="store_true", help="keep examples that no reward judges"
    )
    rewards.add_argument(
        "--none-for-top",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="note that 'None' is to stand for texts of top scores; the texts are kept either way",
    )
    part = parser.add_argument_group("which examples")
    part.add_argument("--max-examples", type=int, help="the set ends after these")
    part.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="part I, from 0, of N, as a set of its own in an --out of its own",
    )
    part.add_argument(
        "--skip-bad",
        default="0",
        metavar="N",
        help="leave out as many bad examples, or such a share, as 0.01 or 1%%; the manifest tells "
        "them. Without it all are listed, and no set is made",
    )
    part.add_argument(
        "--sizes",
        choices=("same", "any"),
        default="same",
        help="whether a pair of pictures that differ in size is bad",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--name", help="of the set; by default the source's")
    files.add_argument("--split", default="train", help="of the set that is written")
    files.add_argument(
        "--shard-mb", type=float, default=SHARD_BYTES / 1e6, help="size of a file to aim at"
    )
    files.add_argument("--min-shards", type=int, default=1, help="not fewer than hosts")
    files.add_argument(
        "--validate",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="decode every picture, and compare the sizes of each pair",
    )
    parser.add_argument(
        "--cache",
        metavar="MODEL",
        help="also keep what this model's encoders say, as 'mre data cache' does; in one process",
    )
    add_base(parser)
    add_lora(parser)
    add_cache_options(parser)
    work = parser.add_argument_group("work; the shards do not depend on it")
    work.add_argument("--workers", type=int, default=1, help="processes")
    work.add_argument(
        "--beam",
        metavar="OPTIONS",
        help="write by Apache Beam with these pipeline options, as --beam=--runner=DirectRunner; "
        "every worker must see PATH and --out",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the shards that the options ask for."""
    options, spread = parse_options(args.source, args.option), _spread(args)
    source = open_source(args.source, args.path, **options)
    for note in getattr(source, "notes", ()):
        print(note)
    if args.rewards:
        source = _judged(source, args)
    check = Check(decode=args.validate, same_size=args.sizes == "same")
    skip_bad = parse_skip_bad(args.skip_bad)
    maker = make_cache_maker(args, args.cache) if args.cache else None
    plan = plan_shards(
        source,
        select(len(source), args.max_examples, parse_shard(args.shard)),
        name=args.name or source.name,
        split=args.split,
        shard_bytes=round(args.shard_mb * 1e6),
        min_shards=args.min_shards,
        check=check,
        extra_bytes=maker.cache.record_bytes if maker else 0,
    )
    settings = _settings(args, options, source)
    if plan.bad > allowed_bad(skip_bad, len(plan.positions)):
        print("some examples are bad: no set is made, all are looked at", file=sys.stderr)
    try:
        manifest = prepare(
            source,
            plan,
            args.out,
            settings | (maker.cache.settings() if maker else {}),
            check=check,
            skip_bad=skip_bad,
            spread=spread,
            extender=maker,
        )
    except BadExamplesError as error:
        for line in report_bad(error.bad, args.out):
            print(line, file=sys.stderr)
        raise
    print(
        f"{args.out}: {manifest.count} examples in {len(manifest.shards)} shards, "
        f"{manifest.bytes / 1e6:.1f} MB, {manifest.hash[:16]}"
    )
    if several := manifest.measured.get(SEVERAL):
        print(f"{several} examples have several instructions: an epoch draws one of each")
    if skipped := manifest.measured.get(SKIPPED):
        print(f"left out {len(skipped)} bad examples:")
        for line in report_bad([BadExample(**one) for one in skipped], args.out):
            print(line)
    for line in report(maker, manifest) if maker else ():
        print(line)
    return 0


def parse_options(source: str, texts: Sequence[str]) -> dict[str, Any]:
    """Reads "split=train" and the like, each value as its reader's signature wants it.

    Raises:
        ConfigError: if there is no "=", or the value is of another kind.
    """
    known = inspect.signature(SOURCES[source]).parameters if source in SOURCES else {}
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--option {text!r}: want NAME=VALUE")
        kind = known[name].annotation if name in known else str
        options[name] = _value(name, value, kind)
    return options


def _spread(args: argparse.Namespace) -> Spread | None:
    if args.workers < 1 or (args.workers > 1 and args.beam is not None):
        raise ConfigError(f"--workers {args.workers}: want at least 1, and 1 beside --beam")
    if args.cache and (args.workers > 1 or args.beam is not None):
        raise ConfigError("--cache works in one process, on all its devices: no --workers, --beam")
    if args.beam is not None:
        return functools.partial(by_beam, shlex.split(args.beam))
    return functools.partial(by_processes, args.workers) if args.workers > 1 else None


def _value(name: str, text: str, kind: Any) -> Any:
    wanted = {bool: "true or false", int: "an integer"}.get(kind, "a JSON object")
    if kind not in (bool, int) and name != "columns":
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if type(value) is not (kind if kind in (bool, int) else dict):
        raise ConfigError(f"--option {name}={text}: want {wanted}")
    return value


def _judged(source: Source, args: argparse.Namespace) -> Judged:
    rewards = read_rewards(args.rewards)
    judged = join(
        source,
        rewards,
        key=args.reward_key,
        threshold=args.join_threshold,
        keep_unjudged=args.keep_unjudged,
    )
    print(judged.report)
    if judged.report.unjudged:
        what = "kept" if args.keep_unjudged else "left out (--keep-unjudged keeps them)"
        print(f"{judged.report.unjudged} triplets without a reward are {what}")
    return judged


def _settings(args: argparse.Namespace, options: dict[str, Any], source: Source) -> dict[str, Any]:
    """What the shards depend on. Not the place of the input, whose content is sampled instead."""
    digest = None
    if args.rewards:
        digest = hashlib.sha256(epath.Path(args.rewards).read_bytes()).hexdigest()
    return {
        "format": _FORMAT,
        "source": args.source,
        "options": {key: value for key, value in options.items() if (key, value) != _UNSAID},
        "examples": len(source),
        "max_examples": args.max_examples,
        "part": args.shard,
        "rewards": digest,
        "reward_key": source.report.key if isinstance(source, Judged) else None,
        "none_for_top": args.none_for_top,
        "shard_bytes": round(args.shard_mb * 1e6),
        "min_shards": args.min_shards,
        # Said only where it is not as it ever was, so that older sets keep their settings.
        **({} if args.sizes == "same" else {"sizes": args.sizes}),
        **({"unjudged": "kept"} if args.keep_unjudged else {}),
    }
