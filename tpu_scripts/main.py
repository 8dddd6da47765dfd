"""The verbs, for both engines."""

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tpu_scripts import jobset
from tpu_scripts.calls import Calls
from tpu_scripts.errors import CallError, PodError, SettingsError
from tpu_scripts.gather import gather
from tpu_scripts.gke import GkeSlice
from tpu_scripts.progress import committed_step
from tpu_scripts.queued import POD, QueuedSlice
from tpu_scripts.settings import Settings, read_settings
from tpu_scripts.supervise import new_attempt, supervise

VERBS = {
    "create": "ask for the slice; from here on it costs money",
    "setup": "bring the code, the environment and the secrets to all workers",
    "preflight": "have all workers compute together, and compare them",
    "launch": "start COMMAND on all workers, detached",
    "status": "where the slice, the workers and the checkpoints stand",
    "logs": "copy the logs of all attempts, of workers that are gone too",
    "stop": "have COMMAND save and end",
    "supervise": "all of these until the run is done, through preemptions and crashes",
    "delete": "give the slice back; asks, unless --yes",
    "gather": "put the parts of sharded work together, or say what is missing",
    "render": "print the JobSet of ENGINE=gke",
}
_HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb; returns the exit code, which `supervise` has from the run."""
    args = _parse(argv)
    try:
        settings = read_settings(args.settings)
        calls = Calls(settings.secrets, dry_run=args.dry_run, retry_seconds=settings.retry_seconds)
        return _run(args, settings, calls)
    except PodError as error:
        print(f"pod {args.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"pod {args.verb}: interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace, settings: Settings, calls: Calls) -> int:
    verb = args.verb
    gke = settings.engine == "gke"
    pod = GkeSlice(settings, calls) if gke else QueuedSlice(settings, calls)
    if verb in ("create", "supervise"):
        check_account(settings, calls)
    if verb == "supervise":
        if args.dry_run:
            raise SettingsError("supervise has no --dry-run; create, setup and launch have")
        signal.signal(signal.SIGTERM, _interrupt)
        if isinstance(pod, QueuedSlice):
            return supervise(pod, keep=args.keep)
        return pod.supervise(lambda: committed_step(settings.run, calls), keep=args.keep)
    if verb == "launch":
        pod.launch() if isinstance(pod, GkeSlice) else pod.launch(new_attempt())
    elif verb == "status":
        _print(pod.status())
        step = committed_step(settings.run, calls)
        print(f"{settings.run}: " + ("nothing saved" if step is None else f"step {step} saved"))
    elif verb == "logs":
        folder = Path(args.out or f"{settings.name}.logs")
        pod.logs(folder)
        print(folder)
    elif verb == "preflight":
        _print(pod.preflight())
    elif verb == "delete":
        _delete(pod, settings, yes=args.yes or args.dry_run)
    elif verb == "gather":
        _print(gather(settings, calls))
    elif verb == "render":
        if not gke:
            raise SettingsError("render: ENGINE=queued has no JobSet")
        print(jobset.render(settings), end="")
    else:
        getattr(pod, verb)()
    return 0


def check_account(settings: Settings, calls: Calls) -> None:
    """What would make everything fail, asked before anything costs money.

    Raises:
        SettingsError: if nobody is logged in, or there is no such bucket.
    """
    who = calls.run("gcloud", "auth", "list", "--filter=status:ACTIVE", "--format=value(account)")
    if not who.strip() and not calls.dry_run:
        raise SettingsError("nobody is logged in to gcloud: gcloud auth login")
    if not settings.run.startswith("gs://"):
        return
    bucket = settings.run.split("/")[2]
    words = ("gcloud", "storage", "buckets", "describe", f"gs://{bucket}")
    try:
        place = calls.run(*words, "--format=value(location)").strip().lower()
    except CallError as error:
        raise SettingsError(f"RUN={settings.run}: {error}") from None
    region = settings.zone.rpartition("-")[0]
    # A multi-region, as US, holds the regions of its name.
    if place and place != region and not (len(place) == 2 and region.startswith(place)):
        calls.say(
            f"warning: {bucket} is in {place} and the slice in {region}: what is read and written "
            "between regions is slow, and costs 0.02 US dollars a GB and more (2026)"
        )


def _delete(pod: GkeSlice | QueuedSlice, settings: Settings, *, yes: bool) -> None:
    if not yes:
        try:
            answer = input(f"delete {settings.name} and all that runs on it? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise SettingsError(f"nothing is deleted; {POD} delete --yes does not ask")
    pod.delete()


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, flush=True)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pod",
        description="Runs mre on Cloud TPU slices; README.md tells the way.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["verbs:", *(f"  {verb:<10} {text}" for verb, text in VERBS.items())]),
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB")
    parser.add_argument(
        "--settings",
        type=Path,
        default=_HERE / "pod.env",
        metavar="FILE",
        help="default: pod.env here",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the calls, and make none")
    parser.add_argument("--yes", action="store_true", help="delete: do not ask")
    parser.add_argument(
        "--keep", action="store_true", help="supervise: leave the slice, which costs money"
    )
    parser.add_argument("--out", metavar="DIR", help="logs: by default NAME.logs")
    return parser.parse_args(argv)
