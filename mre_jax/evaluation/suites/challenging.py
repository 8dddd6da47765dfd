"""`mre evaluate challenging`: training examples of low scores, made anew (Table 9).

The checkpoint edits the originals of training examples whose rewards are bad; its edits and the
examples' own targets, the system "Original", are judged by the same judge.
"""

import argparse
import hashlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.commands.suite_options import add_judge, add_system
from mre_jax.data.join import Judged, join
from mre_jax.data.sources import SOURCES, open_source
from mre_jax.data.sources.source import strict
from mre_jax.data.triplets import Triplet, safe_name
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.case import Case, check_cases
from mre_jax.evaluation.run_edits import evaluate_by_judge, print_summary
from mre_jax.evaluation.suites.case_table import write_picture
from mre_jax.io.json_file import read_rows
from mre_jax.reward.file import Reward, read_rewards

SUITE = "challenging"
TARGETS = "Original"
RULES: dict[str, Callable[[Sequence[float]], float]] = {
    "all": max,
    "any": min,
    "mean": statistics.fmean,
}
"""What of the three scores is held against the limit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the suite."""
    parser.add_argument("data", help="folder or file of the training set")
    parser.add_argument(
        "--source", choices=tuple(SOURCES), default="instruct_pix2pix", help="(%(default)s)"
    )
    parser.add_argument("--reward-edit", required=True, help="its rewards, RewardEdit_20K.json")
    parser.add_argument("--max-score", type=float, default=2.0, help="(%(default)s)")
    parser.add_argument(
        "--rule",
        choices=tuple(RULES),
        default="all",
        help="all, any or the mean of an example's scores are that low (%(default)s; the paper "
        "does not say)",
    )
    parser.add_argument("--count", type=int, default=500, help="examples (%(default)s)")
    parser.add_argument("--draw", type=int, default=0, help="seed of their choice (%(default)s)")
    add_system(parser)
    add_judge(parser)


def run(args: argparse.Namespace) -> int:
    """Chooses the examples, makes the edits, and has both judged."""
    if args.system == TARGETS:
        raise ConfigError(f"--system {TARGETS}: that is what the targets are called")
    cases = read_challenging(args, Path(args.out) / "originals" / SUITE)
    rows = evaluate_by_judge(args, SUITE, cases, targets=TARGETS)
    print_summary(rows, args.out)
    return 0


def read_challenging(args: argparse.Namespace, pictures: Path) -> list[Case]:
    """The chosen examples, their pictures written to a folder.

    Raises:
        DataError: if no example has scores that low, or as the source.
    """
    rewards = read_rewards(args.reward_edit)
    source = join(open_source(args.source, args.data), rewards)
    low = _low(source, rewards, args.rule, args.max_score)
    if not low:
        raise DataError(
            f"{args.reward_edit}: no example with {args.rule} of its scores at most "
            f"{args.max_score:g}; raise --max-score, or take --rule any"
        )
    chosen = sorted(sorted(low, key=lambda entry: _rank(args.draw, entry[1]))[: args.count])
    triplets = strict(source.read([position for position, _ in chosen]))
    cases = [_case(triplet, epath.Path(args.data), pictures) for triplet in triplets]
    return check_cases(cases, args.data)


def _low(
    source: Judged, rewards: Mapping[str, Reward], rule: str, limit: float
) -> list[tuple[int, str]]:
    """Position and key of the examples with low scores."""
    keys = source.keys()
    labels = keys.names if source.report.key == "folder" else [str(row) for row in keys.rows]
    found = enumerate(labels or ())
    return [(place, key) for place, key in found if RULES[rule](rewards[key].scores) <= limit]


def _rank(seed: int, id_: str) -> bytes:
    """A random order that does not depend on what else is in the set."""
    return hashlib.sha256(f"{seed}/{id_}".encode()).digest()


def _case(triplet: Triplet, data: epath.Path, pictures: Path) -> Case:
    id_ = safe_name(triplet.id)
    return Case(
        id=id_,
        group=id_,
        kind="",
        instruction=triplet.instruction,
        original=write_picture(triplet.original, pictures, f"{id_}_0", triplet.where),
        target=write_picture(triplet.edited, pictures, f"{id_}_1", triplet.where),
        extra=_extra(data / triplet.id / "metadata.jsonl"),
    )


def _extra(path: epath.Path) -> dict[str, Any]:
    """Scene and edit of an example of the toy world."""
    try:
        _, row = next(read_rows(path))
        return {"scene": row["scene"], "edit": row["edit"]}
    except (DataError, LookupError, StopIteration):
        return {}
