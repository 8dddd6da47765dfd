"""The command `mre`: one subcommand a job, each in the module that does the job.

A command's module gives `add_arguments(parser)` and `run(args) -> exit code`; it is imported only
when its command is called, so that `mre --help` answers at once.
"""

import argparse
import importlib
import io
import sys
import warnings
from collections.abc import Sequence

import mre_jax
from mre_jax.errors import MreError

COMMANDS = {
    "demo": ("mre_jax.commands.demo", "the paper's story in miniature, on this machine"),
    "convert": ("mre_jax.commands.convert", "bring weights in from PyTorch files and out again"),
    "prepare": ("mre_jax.commands.prepare", "write a public set and its rewards as shards"),
    "annotate": ("mre_jax.commands.annotate", "have a judge give triplets rewards"),
    "data": ("mre_jax.commands.data", "verify, describe or cache a prepared set"),
    "plan": ("mre_jax.commands.plan", "what a run takes: memory, hours, money; before it starts"),
    "doctor": ("mre_jax.commands.doctor", "is this machine, or pod, ready for a run"),
    "train": ("mre_jax.commands.train", "train an editor, or go on with a run"),
    "export": ("mre_jax.commands.export", "the model that a run has trained"),
    "edit": ("mre_jax.commands.edit", "edit one photo, or a grid over rewards"),
    "sample": ("mre_jax.commands.sample", "edit a whole list of photos in batches"),
    "evaluate": ("mre_jax.commands.evaluate", "run a benchmark on an editor"),
    "statistics": (
        "mre_jax.commands.statistics",
        "compare systems, conditions or judges in results",
    ),
    "tables": ("mre_jax.commands.tables", "the paper's tables from results"),
    "improve": ("mre_jax.commands.improve", "train an editor on its own edits, judged"),
    "report": ("mre_jax.commands.report", "results as one page to look at"),
    "toy": ("mre_jax.commands.toy", "make a procedural data set with exact rewards"),
    "toy-pretrain": (
        "mre_jax.commands.toy_pretrain",
        "make the toy world's small editor from nothing",
    ),
    "toy-smartedit": (
        "mre_jax.commands.toy_smartedit",
        "make the toy world's small SmartEdit from its small editor",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `mre` with `argv`, by default the process's own arguments; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parse(argv)
    warnings.showwarning = _one_line_warning
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what it cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return args._run(args)
    except MreError as error:
        print(f"mre {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.filename is None:
            raise
        print(f"mre {args.command}: {error.filename}: {error.strerror}", file=sys.stderr)
        return MreError.exit_code
    except KeyboardInterrupt:
        print(f"mre {args.command}: interrupted", file=sys.stderr)
        return 130


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments; those of the form key=value may stand between the options."""
    parser = _parser(argv)
    args, rest = parser.parse_known_args(argv)
    strange = [text for text in rest if text.startswith("-") or "=" not in text]
    if strange or (rest and not hasattr(args, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(strange or rest)}")
    if rest:
        args.overrides = [*args.overrides, *rest]
    return args


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    about = (mre_jax.__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="mre", description=about)
    parser.add_argument("--version", action="version", version=f"mre_jax {mre_jax.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name in argv[:1]:
            implementation = importlib.import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(_run=implementation.run)
    return parser


def _one_line_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)
