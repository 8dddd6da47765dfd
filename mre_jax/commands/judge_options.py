"""The options of every command that asks a judge."""

import argparse
import inspect
import json
from typing import Any

from mre_jax.commands.options import parse_numbers
from mre_jax.errors import ConfigError
from mre_jax.judges.asking import ManyAtOnce
from mre_jax.judges.budget import Budget
from mre_jax.judges.judge import Judge, judge_class, make_judge
from mre_jax.judges.openai.judge import OpenAIJudge
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
    """The judge that the options name.

    Raises:
        ConfigError: if there is none, an option is not one of its, or a ceiling is asked for and
            no price is known.
    """
    if not args.judge:
        raise ConfigError("no --judge: give openai:MODEL, toy, replay:JOURNAL or human:FILE")
    kind = args.judge.partition(":")[0]
    options: dict[str, Any] = {}
    for text in args.judge_option:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--judge-option {text!r}: want NAME=VALUE")
        options[name] = _value(value)
    if kind in ("openai", "openai-batch"):
        options |= _model_options(args)
    elif args.base_url or args.price or args.rpm or args.tpm:
        raise ConfigError(f"judge {args.judge}: takes no --base-url, --price, --rpm or --tpm")
    _check_options(args.judge, options)
    judge = make_judge(args.judge, **options)
    model = getattr(judge, "judge", judge)
    if args.max_usd is not None and isinstance(model, OpenAIJudge) and model.facts.usd is None:
        raise ConfigError(
            f"--max-usd: no price is known for {model.request.model}; give --price IN,OUT"
        )
    return judge


def budget_from(args: argparse.Namespace) -> Budget:
    """The ceiling that the options set."""
    return Budget(args.max_usd)


def _model_options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"base_url": args.base_url, "offline": args.dry_run}
    if args.price:
        prices = parse_numbers(args.price, "--price")
        if len(prices) != 2:
            raise ConfigError(f"--price {args.price!r}: want two numbers, as 2.5,10")
        options["usd"] = prices
    if args.rpm is not None:
        options["requests_per_minute"] = args.rpm
    if args.tpm is not None:
        options["tokens_per_minute"] = args.tpm
    return options


def _check_options(spec: str, options: dict[str, Any]) -> None:
    made = judge_class(spec)
    known = set(inspect.signature(made).parameters) | {"base_url", "offline"}
    if issubclass(made, ManyAtOnce):
        known |= set(inspect.signature(OpenAIJudge).parameters)
    for name in options:
        if name not in known - {"model", "path", "pace", "options"}:
            want = ", ".join(sorted(known - {"model", "path", "pace", "options", "offline"}))
            raise ConfigError(f"judge {spec}: no option {name!r}; it has {want or 'none'}")


def _value(text: str) -> Any:
    """A number, true, false or null, which may be none or nothing; anything else is a text."""
    if text.strip().lower() in ("", "none", "null"):
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text
