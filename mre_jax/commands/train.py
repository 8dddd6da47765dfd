"""`mre train CONFIG key=value ...`: train, or go on with a run.

The same command on every worker of a pod; workers find each other. `EPILOG` says the rest.
"""

import argparse
from typing import Any

from mre_jax.io.devices import keep_programs
from mre_jax.training import settings
from mre_jax.training.config import TrainConfig, load_config
from mre_jax.training.liveness import guarded, start_distributed
from mre_jax.training.run.identity import FLAG
from mre_jax.training.train import train

EPILOG = """\
The same command goes on with a run that is there, from its newest valid checkpoint; on a pod, give
it to every worker. Exit codes:

  0   done
  65  the data or the numbers are bad: do not retry
  70  crash or hang: retry a few times
  75  stopped by a signal, and saved; or another process is at the run: run the same command again
  78  the configuration is bad: do not retry

`tpu_scripts/pod supervise` does all that on Cloud TPUs. Other engines end a run for good that was
preempted (75), unless they are told: gcluster job submit --restarts 50
--restart-on-exit-codes 70,75,134,137,143,255.
"""


class _Keys(argparse.Action):
    """Lists the configuration's keys, and ends as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        rows = settings.describe(TrainConfig)
        width = max(len(key) for key, _, _ in rows)
        for key, kind, default in rows:
            print(f"{key:{width}}  {kind}: {default}")
        print("model.reward is null, no condition, unless one of its keys is given.")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("config", help="a file of configs/, or of your own")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as optimizer.learning_rate=1e-4"
    )
    parser.add_argument(
        "--keys", action=_Keys, nargs=0, help="list all keys with their types and defaults"
    )
    parser.add_argument("--run", required=True, help="the run's directory, local or gs://...")
    parser.add_argument(
        FLAG, action="store_true", help="go on although configuration or data have changed"
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="join no other processes; SIGTERM then ends the run without a checkpoint",
    )


def run(args: argparse.Namespace) -> int:
    """Trains as the configuration says."""
    config = load_config(args.config, args.overrides)
    with guarded():
        if not args.alone:
            start_distributed()
        keep_programs()
        train(config, args.run, allow_config_change=args.allow_config_change, log=print)
    return 0
