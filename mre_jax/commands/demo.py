"""`mre demo`: the paper's story in miniature, from PyTorch weights to a report, on a CPU.

    1. the small pretrained editor that ships edits a few pictures, to look at
    2. it is brought in from its PyTorch folder
    3. flawed triplets of the toy world are scored by exact judges and prepared as TFRecords
    4. the editor is trained on them with rewards, and on the same without
    5. all edit pictures they have never seen, at several rewards, with reward guidance too
    6. the exact judges score the edits: pictures, claims, tables, a report

Every step is printed as the command that you would type for it, and is skipped where a run that was
stopped has done it.
"""

import argparse
import shlex

from mre_jax.commands.options import add_options, read_options, write_options
from mre_jax.data.prepare import CacheSpec, PrepareSpec
from mre_jax.demo.jobs import Job, MakeToy, Train
from mre_jax.demo.spec import DemoSpec
from mre_jax.demo.story import run_demo
from mre_jax.evaluation.suite import Suite
from mre_jax.report.spec import ReportSpec
from mre_jax.training.export import ExportSpec
from mre_jax.weights.convert import ConvertSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre demo`."""
    add_options(parser, DemoSpec)


def run(args: argparse.Namespace) -> int:
    """Tells the story.

    Raises:
        MreError: if a step fails, or a claim does.
    """
    run_demo(read_options(DemoSpec, args), say=_say, show=_show)
    return 0


def command_line(job: Job | ReportSpec) -> list[str]:
    """What does a job, as arguments of `mre`.

    Example:
        >>> command_line(ConvertSpec("from", "to", force=True))
        ['convert', 'from', 'to', '--force']
    """
    match job:
        case ConvertSpec():
            return ["convert", *write_options(job)]
        case MakeToy():
            return ["toy", "--out", str(job.out), *write_options(job.settings)]
        case PrepareSpec():
            return ["prepare", *write_options(job)]
        case CacheSpec():
            return ["data", "cache", *write_options(job)]
        case Train():
            return ["train", str(job.file), "--run", str(job.run), "--alone"]
        case ExportSpec():
            return ["export", *write_options(job)]
        case Suite():
            return ["evaluate", job.name, *write_options(job)]
        case ReportSpec():
            return ["report", *write_options(job)]


def _say(line: str) -> None:
    print(line, flush=True)


def _show(job: Job | ReportSpec) -> None:
    _say(f"$ mre {shlex.join(command_line(job))}")
