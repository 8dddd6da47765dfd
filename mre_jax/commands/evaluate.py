"""`mre evaluate SUITE ... --out DIR`: benchmarks of editors, one file a suite.

    DIR/results.jsonl      a row for every value, of all systems and suites; see `results`
    DIR/pairs.jsonl        a row for every answer about a pair of edits, see `Result.against`
    DIR/judge.jsonl        what the judge said; nothing in it is asked or paid for again (beside it
                           judge.jsonl.pictures.jsonl, hashes of the pictures that were sent);
                           pairs-judge.jsonl of pairs
    DIR/edits/             the edits of checkpoints
    DIR/originals/         pictures of benchmarks that are tables
    DIR/fetched/           folders of pictures that lie in a bucket

A run that was stopped is finished by the same command.
"""

import argparse
import sys
from pathlib import Path

from mre_jax.commands.options import add_options, read_options
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.suites import SUITES, suite_class

_BUILD = "build-benchmark"
_PAIRWISE = "pairwise"
_JUDGE = "judge"
_CALIBRATE = "calibrate"
_CANARIES = "canaries"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mre evaluate`: those of the suite that is named."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["suites:", *(f"  {name:<17}{text}" for name, text in _about().items())]
    )
    parser.add_argument("suite", help="one of the suites below")
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, help="mre evaluate SUITE --help lists them"
    )


def run(args: argparse.Namespace) -> int:
    """Runs one suite.

    Raises:
        ConfigError: if there is no such suite, or --out is in a bucket.
    """
    about = _about()
    if args.suite not in about:
        raise ConfigError(f"suite {args.suite!r}: want one of {', '.join(about)}")
    parser = argparse.ArgumentParser(
        prog=f"mre evaluate {args.suite}", description=about[args.suite]
    )
    runs = {
        _BUILD: _build,
        _PAIRWISE: _pairwise,
        _JUDGE: _judge,
        _CALIBRATE: _calibrate,
        _CANARIES: _canaries,
    }
    run = runs.get(args.suite, _evaluate)
    return run(args.suite, parser, args.options)


def _about() -> dict[str, str]:
    """What each word after `mre evaluate` does."""
    suites = {name: text for name, (_, _, text) in SUITES.items()}
    return {
        **suites,
        _PAIRWISE: "edits of the suites above, compared two by two by a judge",
        _JUDGE: "a judge held to what people say, on public sets or your own",
        _CALIBRATE: "a judge's scores on the scale of another's, from edits that both scored",
        _CANARIES: "does a judge obey instructions and pictures that ask for the best score?",
        _BUILD: "instructions for photos of yours, to be verified",
    }


def _evaluate(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.commands.statistics import print_lines
    from mre_jax.evaluation.judging import JudgedSuite
    from mre_jax.evaluation.results import FILE
    from mre_jax.evaluation.suite import check_complete

    made = suite_class(name)
    add_options(parser, made)
    if issubclass(made, JudgedSuite):
        _add_dry_run(parser)
    args = parser.parse_args(options)
    suite = read_options(made, args)
    for note in suite.notes():
        print(note, file=sys.stderr)
    if isinstance(suite, JudgedSuite) and args.dry_run:
        print(suite.estimate())
        return 0
    rows = suite.evaluate()
    end = f"{Path(suite.out) / FILE}: {len(rows)} results of {rows[0].system}"
    print_lines([*suite.summary(rows), end])
    check_complete(rows)
    return 0


def _pairwise(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.commands.statistics import print_lines
    from mre_jax.evaluation.pairs.spec import PairwiseSpec
    from mre_jax.evaluation.results import PAIRS
    from mre_jax.evaluation.suite import check_complete

    add_options(parser, PairwiseSpec)
    _add_dry_run(parser)
    args = parser.parse_args(options)
    spec = read_options(PairwiseSpec, args)
    for note in spec.notes():
        print(note, file=sys.stderr)
    if args.dry_run:
        print(spec.estimate())
        return 0
    rows = spec.evaluate()
    print_lines([*spec.summary(rows), f"{spec.folder / PAIRS}: {len(rows)} answers about pairs"])
    check_complete(rows)
    return 0


def _judge(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.evaluation.meta.spec import JudgeEvaluation

    add_options(parser, JudgeEvaluation)
    _add_dry_run(parser)
    args = parser.parse_args(options)
    spec = read_options(JudgeEvaluation, args)
    if args.dry_run:
        print(spec.estimate())
        return 0
    spec.evaluate()
    print("\n".join(map(str, spec.tables())), end="")
    return 0


def _calibrate(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.commands.statistics import print_lines
    from mre_jax.evaluation.meta.calibration import CalibrationSpec

    add_options(parser, CalibrationSpec)
    spec = read_options(CalibrationSpec, parser.parse_args(options))
    print_lines([*spec.calibrate().lines(), f"written to {spec.out}"])
    return 0


def _canaries(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.commands.statistics import print_lines
    from mre_jax.evaluation.meta.canaries import CanarySpec, shift_lines

    add_options(parser, CanarySpec)
    spec = read_options(CanarySpec, parser.parse_args(options))
    print_lines([*shift_lines(spec.evaluate()), f"{Path(spec.out)}: the answers"])
    return 0


def _build(name: str, parser: argparse.ArgumentParser, options: list[str]) -> int:
    from mre_jax.evaluation.suites.build_benchmark import BenchmarkDraft

    add_options(parser, BenchmarkDraft)
    _add_dry_run(parser)
    args = parser.parse_args(options)
    spec = read_options(BenchmarkDraft, args)
    if args.dry_run:
        print(spec.estimate())
        return 0
    draft = spec.build()
    print(
        f"{draft.path}: {draft.done} of {draft.done + len(draft.missing)} photos; read it beside "
        "them, mend it, and save it as instructions.json"
    )
    if draft.missing:
        raise DataError(
            f"{len(draft.missing)} photos have no instructions, the first {draft.missing[0]}; "
            "drafts.jsonl says why; run it again, or write them by hand"
        )
    return 0


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print requests, tokens, bytes, price"
    )
