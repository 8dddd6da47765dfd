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
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from etils import epath
from tqdm import tqdm

from mre_jax.annotation.compaction import compact
from mre_jax.annotation.items import AUTO, Items, open_items
from mre_jax.annotation.questions import ask_about
from mre_jax.annotation.statistics import collect
from mre_jax.commands.judge_options import add_judge_arguments, budget_from, judge_from
from mre_jax.data.bad_examples import (
    BadExample,
    BadExamplesError,
    allowed_bad,
    parse_skip_bad,
    report_bad,
)
from mre_jax.data.sources import SOURCES, parse_options
from mre_jax.data.stats_charts import write_charts
from mre_jax.errors import ConfigError, MreError
from mre_jax.judges.asking import run_all
from mre_jax.judges.estimate import answered_keys, estimate
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.outcome import Outcome
from mre_jax.judges.packs.pack import PACKS, load_pack
from mre_jax.judges.picture import parse_encoding
from mre_jax.judges.picture_index import PictureIndex
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict
from mre_jax.reward.file import Reward, write_rewards
from mre_jax.reward.stats import RewardStats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre annotate`."""
    parser.add_argument(
        "data",
        nargs="?",
        help="a public set, a folder of `mre prepare` or of `mre toy`; without it, the journal is "
        "summed up",
    )
    parser.add_argument("--out", required=True, metavar="JOURNAL", help="file to fill")
    parser.add_argument(
        "--rewards", metavar="FILE", help="write the scores as RewardEdit_20K.json at the end"
    )
    parser.add_argument(
        "--charts",
        metavar="DIR",
        help="draw scores.png, their histograms, and words.png, a cloud of the texts",
    )
    what = parser.add_argument_group("what is asked")
    what.add_argument(
        "--source", default=AUTO, help=f"layout of the set: prepared, {', '.join(SOURCES)}"
    )
    what.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of its reader"
    )
    what.add_argument("--max-examples", type=int, help="the set ends after these")
    what.add_argument(
        "--skip-bad",
        default="0",
        metavar="N",
        help="leave out as many bad examples, or such a share, as 0.01 or 1%%. Without it all are "
        "listed, and nothing is asked behind the first",
    )
    what.add_argument(
        "--pack", default=PACKS[0], help=f"prompts: {', '.join(PACKS)}, or a .toml file"
    )
    what.add_argument(
        "--picture", default="as-is", help="as-is, jpeg:QUALITY or jpeg:QUALITY:HEIGHT"
    )
    what.add_argument(
        "--self-consistency",
        type=int,
        default=0,
        metavar="N",
        help="ask about N of the triplets twice",
    )
    add_judge_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Asks what the journal does not answer yet, then sums it up."""
    if args.data is None:
        if args.judge or args.dry_run:
            raise ConfigError("no DATA to annotate: give a set, or --out and --rewards alone")
    else:
        pack, encoding = load_pack(args.pack), parse_encoding(args.picture)
        judge = judge_from(args)
        options = parse_options(args.source, args.option)
        items = open_items(args.data, args.source, options, args.max_examples)
        if not 0 <= args.self_consistency <= items.count:
            raise ConfigError(
                f"--self-consistency {args.self_consistency}: want 0 to {items.count}, the triplets"
            )
        for note in items.notes:
            print(note)
        bad: list[BadExample] = []
        allowed = allowed_bad(parse_skip_bad(args.skip_bad), items.count)
        questions = functools.partial(
            ask_about,
            items,
            pack,
            encoding,
            toy=judge.name == "toy",
            twice=args.self_consistency,
            bad=bad,
        )
        if args.dry_run:
            print(estimate(judge, questions(allowed=items.count), answered_keys(args.out)))
            _report_bad(args.out, items, bad, allowed)
            return 0
        total = items.count * len(pack.perspectives)
        outcome = _annotate(args, judge, total, functools.partial(questions, allowed=allowed))
        failure = _failure(args, outcome)
        if outcome.statuses and (failure or len(bad) > allowed):
            print(collect(args.out))
        _report_bad(args.out, items, bad, allowed)
        if failure:
            raise failure
    return _sum_up(args)


def _annotate(
    args: argparse.Namespace,
    judge: Judge,
    total: int,
    questions: Callable[..., Iterator[Question]],
) -> Outcome:
    outcome = Outcome()
    with (
        Journal(args.out) as journal,
        PictureIndex(args.out) as index,
        tqdm(total=total, unit="answer", desc="annotate", disable=None) as bar,
    ):

        def handle(verdict: Verdict) -> bool:
            bar.update(not verdict.repeat)
            outcome.add(verdict)
            return verdict.status != "budget_stopped"

        run_all(
            judge,
            questions(index=index),
            journal,
            handle,
            concurrency=args.concurrency,
            budget=budget_from(args),
            again=args.again,
        )
    return outcome


def _report_bad(out: str, items: Items, bad: Sequence[BadExample], allowed: int) -> None:
    """Lists what was left out; an error if that is more than may be, or all there is."""
    too_many = len(bad) > allowed or len(bad) == items.count
    if bad and not too_many:
        print(f"left out {len(bad)} bad examples:")
    for line in report_bad(bad, out) if bad else ():
        print(line, file=sys.stderr if too_many else sys.stdout)
    if too_many:
        raise BadExamplesError(items.path, bad, allowed, items.count)


def _failure(args: argparse.Namespace, outcome: Outcome) -> MreError | None:
    """What a run that was not answered in full ends with."""
    if not outcome.statuses["budget_stopped"]:
        return outcome.failure()
    with Journal(args.out) as journal:
        return ConfigError(
            f"--max-usd {args.max_usd}: {journal.spent:.2f} USD are spent or may be, and the next "
            "question is not covered; give more to go on"
        )


def _sum_up(args: argparse.Namespace) -> int:
    statistics = collect(args.out)
    print(statistics)
    models = ", ".join(f"{name} ({count})" for name, count in statistics.models.most_common())
    with Journal(args.out) as journal:
        print(f"{args.out}: {statistics.requests} requests, {journal.spent:.2f} USD; by {models}")
    if args.rewards or args.charts:
        made = compact(args.out)
        left = (
            f", {made.incomplete} items left out for want of an answer" if made.incomplete else ""
        )
        if args.rewards:
            write_rewards(args.rewards, made.rewards)
            print(f"{args.rewards}: {len(made.rewards)} rewards{left}")
        if args.charts:
            for path in _draw(made.rewards.values(), args.charts):
                print(f"{path}: of {len(made.rewards)} rewards{left}")
    return 0


def _draw(rewards: Iterable[Reward], folder: str) -> Sequence[epath.Path]:
    """Draws what `mre data stats` draws of a prepared set."""
    stats = RewardStats()
    for reward in rewards:
        stats.add_reward(reward.scores, reward.texts)
    return write_charts(folder, stats)
