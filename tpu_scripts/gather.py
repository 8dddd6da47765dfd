"""What the parts of sharded work come to: are all there, and one file of those that can be one."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tpu_scripts.calls import Calls
from tpu_scripts.errors import CallError, PodError, SettingsError
from tpu_scripts.settings import Settings


class PartsMissing(PodError):
    """Some workers have not done their part."""

    exit_code = 75


@dataclasses.dataclass(frozen=True)
class _Store:
    """Reads and writes files of a bucket or of a disk."""

    calls: Calls

    def find(self, pattern: str) -> list[str]:
        """Paths of files that match; `*` matches within a name."""
        if not pattern.startswith("gs://"):
            return sorted(map(str, Path("/").glob(pattern.lstrip("/"))))
        try:
            return sorted(self.calls.run("gcloud", "storage", "ls", pattern).split("\n")[:-1])
        except CallError:  # nothing matches
            return []

    def read(self, path: str) -> str:
        if not path.startswith("gs://"):
            return Path(path).read_text()
        return self.calls.run("gcloud", "storage", "cat", path)

    def write(self, path: str, text: str) -> None:
        if path.startswith("gs://"):
            self.calls.run("gcloud", "storage", "cp", "--quiet", "-", path, stdin=text)
            return
        new = Path(f"{path}.new")
        new.write_text(text)
        new.replace(path)


def gather(settings: Settings, calls: Calls) -> Iterator[str]:
    """Puts the parts of all workers together; says in lines what there is.

    `mre sample --out {run}` leaves a list a part, which become results.jsonl, as do files whose
    name holds {worker}; folders whose name does stay as they are, and are listed as `mre train`
    and `mre tables` take them.

    Raises:
        PartsMissing: naming the workers whose part is not done, and the exit codes they ended with.
        SettingsError: for a command that does not shard.
    """
    if not settings.alone:
        raise SettingsError("gather: COMMAND has no {worker}, so that there are no parts")
    store = _Store(calls)
    yield from _missing(settings, store)
    out = _out(settings)
    if "{worker}" not in out:
        yield from _sampled(out, settings.workers, store)
        return
    parts = [out.replace("{worker}", str(number)) for number in range(settings.workers)]
    if re.search(r"\.jsonl?$", out):
        whole = re.sub(r"[-_.]?\{worker\}", "", out)
        store.write(whole, "".join(map(store.read, parts)))
        yield f"{whole}: {len(parts)} parts"
    elif settings.command[1:2] == ("evaluate",):
        yield shlex.join(["mre", "tables", *parts])
    else:
        yield f"data.paths=[{','.join(parts)}]"


def _missing(settings: Settings, store: _Store) -> Iterator[str]:
    """The newest attempt has an end of every worker, and each is a good one."""
    ends = store.find(f"{settings.logs}/*/worker-*.json")
    newest = max((path.rsplit("/", 2)[1] for path in ends), default=None)
    codes = {}
    for path in ends:
        if path.rsplit("/", 2)[1] == newest:
            end = json.loads(store.read(path))
            codes[end["worker"]] = end["exit_code"]
    left = [
        f"{number} ({'has not ended' if number not in codes else f'exit code {codes[number]}'})"
        for number in range(settings.workers)
        if codes.get(number) != 0
    ]
    if left:
        raise PartsMissing(
            f"{settings.run}: {len(left)} of {settings.workers} parts are missing, of worker "
            f"{', '.join(left)}; launch again: what is done is not done anew"
        )
    yield f"{settings.run}: all {settings.workers} parts are there (attempt {newest})"


def _sampled(out: str, workers: int, store: _Store) -> Iterator[str]:
    """The lists of `mre sample` as one; of items that failed too."""
    for kind in ("results", "failed"):
        parts = store.find(f"{out}/{kind}-*-of-{workers:05d}.jsonl")
        if kind == "results" and workers > 1 and len(parts) != workers:
            raise PartsMissing(f"{out}: {len(parts)} lists of {workers} parts")
        lines = [line for part in parts for line in store.read(part).splitlines() if line]
        if parts:
            store.write(f"{out}/{kind}.jsonl", "".join(f"{line}\n" for line in lines))
            yield f"{out}/{kind}.jsonl: {len(lines)} items of {len(parts)} parts"


def _out(settings: Settings) -> str:
    """Where the command leaves what it makes."""
    words = list(settings.command)
    for place, word in enumerate(words):
        name, _, value = word.partition("=")
        if name == "--out":
            given = value or words[min(place + 1, len(words) - 1)]
            return given.replace("{run}", settings.run)
    raise SettingsError("gather: COMMAND has no --out")
