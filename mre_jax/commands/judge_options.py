"""The options of every command that asks a judge."""

import argparse

from mre_jax.commands.options import parse_numbers
from mre_jax.errors import ConfigError
from mre_jax.judges.journal import Budget
from mre_jax.judges.judge import Judge
from mre_jax.judges.spec import JudgeSpec, Option
from mre_jax.judges.verdict import FINAL


def add_judge_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --judge and what goes with it."""
    group = parser.add_argument_group("judge")
    group.add_argument(
        "--judge",
        metavar="KIND[:NAME]",
        help="openai:MODEL, openai-batch:MODEL, toy, replay:JOURNAL or human:FILE",
    )
    group.add_argument(
        "--base-url", metavar="URL", help="of a compatible server; by default OPENAI_BASE_URL"
    )
    group.add_argument(
        "--judge-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="as temperature=0.2, temperature=null (not sent), form=auto, api=responses, "
        "max_tokens=500, key_name=AZURE_OPENAI_API_KEY; may be repeated",
    )
    group.add_argument("--concurrency", type=int, default=8, help="questions under way at once")
    group.add_argument("--rpm", type=float, metavar="N", help="requests a minute, at most")
    group.add_argument("--tpm", type=float, metavar="N", help="tokens a minute, at most")
    group.add_argument(
        "--again",
        action="append",
        default=[],
        choices=[status for status in FINAL if status != "ok"],
        help="ask again what ended so; may be repeated",
    )
    money = parser.add_argument_group("money")
    money.add_argument(
        "--max-usd", type=float, help="hard ceiling for all runs of the journal together"
    )
    money.add_argument(
        "--price", metavar="IN,OUT", help="US dollars for a million input and output tokens"
    )
    money.add_argument(
        "--dry-run", action="store_true", help="print requests, tokens, batches and price"
    )


def judge_from(args: argparse.Namespace) -> Judge:
    """The judge that the options name; see `JudgeSpec.make`."""
    return spec_from(args).make(offline=args.dry_run)


def budget_from(args: argparse.Namespace) -> Budget:
    """The ceiling that the options set."""
    return Budget(args.max_usd)


def spec_from(args: argparse.Namespace) -> JudgeSpec:
    """What the options set of the judge.

    Raises:
        ConfigError: if an option is not of the form NAME=VALUE, or a price is no numbers.
    """
    options: dict[str, Option] = {}
    for text in args.judge_option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--judge-option {text!r}: want NAME=VALUE")
        options[name] = value
    return JudgeSpec(
        name=args.judge or "",
        base_url=args.base_url,
        options=options,
        concurrency=args.concurrency,
        rpm=args.rpm,
        tpm=args.tpm,
        again=tuple(args.again),
        max_usd=args.max_usd,
        price=parse_numbers(args.price, "--price") if args.price else None,
    )
