"""The manifest of a prepared set: what its shards are, so that none is lost or changed unseen.

    manifest.json   {"name", "split", "settings_hash", "settings", "count",
                     "shards": [{"file", "count", "bytes", "sha256"}, ...], "measured"}

It is the last file that is written: a folder without it is not finished.
"""

import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.bucket import at_once
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import read_json

FILE = "manifest.json"

REWARDED = "rewarded"
"""Of `measured`: how many examples have a reward. Sets of earlier versions do not tell."""

INDEX = "index_sha256"
"""Of `measured`: of the file of `records.index`. Sets of earlier versions have none."""

SEVERAL = "several_instructions"
"""Of `measured`: how many examples have several, of which an epoch draws one."""
GROUPS = "groups"
"""Of `measured`: how many examples an epoch reads, if it reads one of each group."""

SKIPPED = "skipped"
"""Of `measured`: the bad examples that were left out, as `BadExample`s, if any."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of records.

    Attributes:
        file: name of the file in the folder.
        count: number of records in it.
        bytes: size of the file.
        sha256: SHA-256 of its content, in hexadecimal digits.
    """

    file: str
    count: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A set of shards.

    Attributes:
        name: name of the set.
        split: "train" or another.
        settings: whatever determined the bytes of the shards.
        shards: in the order of their numbers.
        measured: what was found out while they were written; JSON values.
    """

    name: str
    split: str
    settings: Mapping[str, Any]
    shards: tuple[Shard, ...]
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def count(self) -> int:
        """Records of all shards."""
        return sum(shard.count for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def hash(self) -> str:
        """One number for settings and content: equal sets have equal ones."""
        return hash_settings(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The content of `manifest.json`."""
        content = {
            "name": self.name,
            "split": self.split,
            "count": self.count,
            "settings_hash": hash_settings(self.settings),
            "settings": dict(self.settings),
            "shards": [dataclasses.asdict(shard) for shard in self.shards],
        }
        return content | ({"measured": dict(self.measured)} if self.measured else {})


@dataclasses.dataclass(frozen=True)
class Fault:
    """A file of the folder that is not as the manifest says.

    Attributes:
        file: name of the file.
        kind: "missing_file", "extra_file", "empty_file", "duplicate_file" or "wrong_size".
        detail: what was found, and what was expected.
    """

    file: str
    kind: str
    detail: str


def hash_settings(settings: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def shard_file(name: str, split: str, index: int, shards: int) -> str:
    """The name of a shard's file, as TensorFlow Datasets expects it.

    Raises:
        ConfigError: if `name` or `split` cannot be part of one.
    """
    for what, text in (("name", name), ("split", split)):
        if not _NAME.fullmatch(text):
            raise ConfigError(f"{what} {text!r}: want a-z, 0-9 and _, a letter first")
    return f"{name}-{split}.tfrecord-{index:05d}-of-{shards:05d}"


def is_shard(file: str) -> bool:
    """Whether a file's name claims that it holds records."""
    return ".tfrecord" in file and not file.startswith(".")


def write_manifest(folder: epath.PathLike, manifest: Manifest) -> None:
    """Writes `manifest.json`, whole or not at all."""
    write_atomically(epath.Path(folder) / FILE, json.dumps(manifest.to_dict(), indent=1) + "\n")


def load_manifest(folder: epath.PathLike) -> Manifest:
    """Reads `manifest.json`; looks at no shard.

    Raises:
        DataError: if it is missing, was changed by hand, or contradicts itself.
    """
    path = epath.Path(folder) / FILE
    if not path.exists():
        raise DataError(f"{folder}: no {FILE}; finish it with the same 'mre prepare' command")
    content = read_json(path)
    try:
        manifest = Manifest(
            name=_of(str, content["name"]),
            split=_of(str, content["split"]),
            settings=_of(dict, content["settings"]),
            shards=tuple(_shard(entry) for entry in _of(list, content["shards"])),
            measured=_of(dict, content.get("measured", {})),
        )
        wanted = {key: content[key] for key in ("count", "settings_hash")}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not the manifest of a prepared set ({error})") from None
    for key, value in wanted.items():
        if value != manifest.to_dict()[key]:
            raise DataError(f"{path}: {key} {value!r} does not fit the rest; prepare the set again")
    _check_names(path, manifest)
    return manifest


def check_manifest(folder: epath.PathLike) -> Manifest:
    """Loads the manifest and compares it with the names and sizes of the files beside it.

    Cheap, for the start of a run: no shard is opened. `mre data verify` reads every record.

    Raises:
        DataError: naming the first file that is missing, too many, empty, there twice or of
            another size, and how many more there are.
    """
    manifest = load_manifest(folder)
    faults = list(find_faults(folder, manifest))
    if faults:
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise DataError(
            f"{epath.Path(folder) / faults[0].file}: {faults[0].detail}{more}; see 'mre data "
            f"verify {folder}'"
        )
    return manifest


def find_faults(folder: epath.PathLike, manifest: Manifest) -> Iterator[Fault]:
    """Yields every file whose presence or size is not as the manifest says."""
    folder = epath.Path(folder)
    present = {path.name for path in folder.iterdir() if is_shard(path.name)}
    here = [shard.file for shard in manifest.shards if shard.file in present]
    sizes = dict(zip(here, at_once(lambda name: (folder / name).stat().length, here), strict=True))
    first: dict[str, str] = {}
    for shard in manifest.shards:
        if shard.file not in present:
            yield Fault(shard.file, "missing_file", f"missing, with {shard.count} records")
            continue
        if (other := first.setdefault(shard.sha256, shard.file)) != shard.file:
            yield Fault(shard.file, "duplicate_file", f"has the content of {other}")
        size = sizes[shard.file]
        if size == 0:
            yield Fault(shard.file, "empty_file", f"empty, {shard.bytes} bytes in the manifest")
        elif size != shard.bytes:
            yield Fault(shard.file, "wrong_size", f"{size} bytes, {shard.bytes} in the manifest")
    for name in sorted(present - {shard.file for shard in manifest.shards}):
        yield Fault(name, "extra_file", "not in the manifest; remove it")


def _shard(entry: Any) -> Shard:
    entry = _of(dict, entry)
    return Shard(
        file=_of(str, entry["file"]),
        count=_of(int, entry["count"]),
        bytes=_of(int, entry["bytes"]),
        sha256=_of(str, entry["sha256"]),
    )


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.40} is not {kind.__name__}")
    return value


def _check_names(path: epath.Path, manifest: Manifest) -> None:
    names: Sequence[str] = [shard.file for shard in manifest.shards]
    if not names:
        raise DataError(f"{path}: no shards in it")
    repeated, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path}: shard {repeated} stands in it {times} times")
    for index, name in enumerate(names):
        want = shard_file(manifest.name, manifest.split, index, len(names))
        if name != want:
            raise DataError(f"{path}: shard {index} is called {name!r}; want {want!r}")
