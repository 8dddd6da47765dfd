"""Writing a source of triplets as shards, in a folder that can be left and taken up at any moment.

While it is under way the folder holds, beside the shards that are finished,

    prepare.json             the settings, so that others are refused
    .progress/NNNNN.json     of each finished shard: its entry in the manifest, lengths of its
                             records, ids, scores and groups of its examples, and what was measured

Lengths, index, the metadata of TensorFlow Datasets and, last, the manifest end it; then these files
go.
"""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from etils import epath
from tqdm import tqdm

from mre_jax.data.bad_examples import (
    BadExample,
    BadExamplesError,
    allowed_bad,
    find_bad,
    with_ids,
)
from mre_jax.data.records import manifest as manifests
from mre_jax.data.records.example import Features, encode_triplet
from mre_jax.data.records.index import Index, index_digest, is_rewarded, make_index, write_index
from mre_jax.data.records.lengths import write_lengths
from mre_jax.data.records.manifest import GROUPS, INDEX, REWARDED, SEVERAL, SKIPPED, Manifest, Shard
from mre_jax.data.records.shards import Plan, is_whole, write_shard
from mre_jax.data.records.tfds_metadata import write_tfds_metadata
from mre_jax.data.sources.selection import WHOLE, Check, read_checked
from mre_jax.data.sources.source import Source
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from mre_jax.io.begun_folder import begin, differences, refuse
from mre_jax.io.extra import of_extra
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.json_file import read_json

Spread: TypeAlias = Callable[[Callable[[int], None], Sequence[int]], None]
"""Calls a function that can be pickled with each of these shard numbers, wherever it likes."""


class Extender(Protocol):
    """Adds features to the records of a set."""

    def extend(self, triplets: Iterator[Triplet]) -> Iterator[tuple[Triplet, Features]]:
        """Yields each triplet as it is to be written, with its further features, in order."""
        ...

    def measured(self) -> dict[str, Any]:
        """What was found out about the examples since it was asked last; JSON values."""
        ...

    def merged(self, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What several answers of `measured` say of all their examples."""
        ...


_CLAIM, _PROGRESS, _LOCK = "prepare.json", ".progress", ".prepare.lock"


def write_set(
    source: Source,
    plan: Plan,
    folder: epath.PathLike,
    settings: Mapping[str, Any],
    *,
    check: Check = WHOLE,
    skip_bad: float = 0,
    spread: Spread | None = None,
    extender: Extender | None = None,
) -> Manifest:
    """Writes the shards of a plan that are not there yet, and what makes a set of them.

    Every shard is a function of the source and the plan, so that a run that was killed and
    started again leaves the same bytes as one that was not.

    Args:
        source: set by `open_source`, or joined with rewards.
        plan: plan by `plan_shards`.
        folder: empty, or left by an earlier run.
        settings: what determined source and plan; JSON values. Kept in the manifest.
        check: check of every example.
        skip_bad: how many that do not pass may be left out; see `allowed_bad`. They are
            listed in the manifest.
        spread: has the shards written elsewhere, as `mre_jax.data.workers` does; without it they
            are written here, one after the other.
        extender: adds features, here; what it measures comes into the manifest.

    Raises:
        ConfigError: if the folder was begun with other settings, or holds something else.
        BusyError: if another process is filling it.
        BadExamplesError: after all examples were looked at, if more are bad than may be left out.
        DataError: if the source cannot be read, or the disk is full. Finished shards stay.
    """
    of_extra("tensorflow_datasets")  # before anything that takes long
    allowed = allowed_bad(skip_bad, len(plan.positions))
    if plan.bad > allowed:
        _refuse_bad(source, plan, check, allowed)
    folder = epath.Path(folder)
    settings = json.loads(json.dumps({**settings, "sample": plan.sample, "shards": plan.shards}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, _LOCK):
            _claim(folder, settings)
            if not (folder / manifests.FILE).exists():
                notes = _Writer(source, plan, folder, check, extender).write_missing(spread)
                bad = _check_bad(source, notes, allowed)
                index = make_index(
                    pair for note in notes for pair in zip(note.scores, note.groups, strict=True)
                )
                measured = _measured(notes, index, bad, extender)
                shards = tuple(Shard(**note.shard) for note in notes)
                made = Manifest(plan.name, plan.split, settings, shards, measured)
                lengths = itertools.chain.from_iterable(note.lengths for note in notes)
                write_lengths(folder, made, lengths)
                write_index(folder, made, index)
                write_tfds_metadata(folder, made)
                manifests.write_manifest(folder, made)
            _tidy(folder)
            return manifests.check_manifest(folder)
    except OSError as error:
        raise DataError(
            f"{error.filename or folder}: {error.strerror}; mend that and run it again"
        ) from error


def _refuse_bad(source: Source, plan: Plan, check: Check, allowed: int) -> None:
    """Lists all that is bad, where that will be another set when it is mended."""
    print("some examples are bad: no set is made, all are looked at", file=sys.stderr)
    found = find_bad(source, plan.positions, check)
    looked = tqdm(found, total=len(plan.positions), unit="example", desc="check", disable=None)
    bad = [one for one in looked if one is not None]
    raise BadExamplesError(source.path, bad, allowed, len(plan.positions))


def _claim(folder: epath.Path, settings: Mapping[str, Any]) -> None:
    """Marks the folder as begun with these settings, or refuses it."""
    if (folder / manifests.FILE).exists():
        refuse(folder, differences(manifests.load_manifest(folder).settings, settings))
    else:
        begin(folder / _CLAIM, settings, kind="prepared set")


@dataclasses.dataclass
class _Note:
    """What is kept of a finished shard until all are; JSON values.

    Attributes:
        shard: fields of `Shard`.
        positions, ids, scores, groups: what is known of its examples.
        lengths: bytes of their records.
        bad: examples that were left out.
        several: examples with several instructions.
        measured: what the extender measured.
    """

    shard: dict[str, Any] = dataclasses.field(default_factory=dict)
    positions: list[int] = dataclasses.field(default_factory=list)
    ids: list[str] = dataclasses.field(default_factory=list)
    scores: list[Any] = dataclasses.field(default_factory=list)
    groups: list[str] = dataclasses.field(default_factory=list)
    lengths: list[int] = dataclasses.field(default_factory=list)
    bad: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    several: int = 0
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)

    def add(self, position: int, triplet: Triplet) -> None:
        self.positions.append(position)
        self.ids.append(triplet.id)
        self.scores.append(triplet.scores)
        self.groups.append(triplet.group)
        self.several += bool(triplet.instructions)

    def measured_in(self, records: Iterable[bytes]) -> Iterator[bytes]:
        """The same records, whose lengths are noted as they pass."""
        for record in records:
            self.lengths.append(len(record))
            yield record


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Writes the shards of a plan, in whatever process it is sent to."""

    source: Source
    plan: Plan
    folder: epath.Path
    check: Check
    extender: Extender | None = None

    def write_missing(self, spread: Spread | None) -> list[_Note]:
        """Writes what is missing, and reads what is there once to be sure of it."""
        _remove_torn(self.folder)
        (self.folder / _PROGRESS).mkdir(exist_ok=True)
        missing = [index for index in range(self.plan.shards) if not self._is_finished(index)]
        if spread is not None and missing:
            spread(dataclasses.replace(self, extender=None).write, missing)
            missing = [index for index in missing if not self._is_whole(index)]
        places: dict[str, tuple[int, int]] = {}
        notes: list[_Note] = []
        total = len(self.plan.positions)
        with tqdm(total=total, unit="example", desc="prepare", disable=None) as bar:
            for index in range(self.plan.shards):
                if index in missing:
                    self.write(index, bar.update)
                notes.append(self._note(index))
                self._check_ids(index, notes[-1], places)
                if index not in missing:
                    bar.update(len(self.plan.part(index)))
        return notes

    def write(self, index: int, progress: Callable[[], object] = lambda: None) -> None:
        """Writes one shard and its note; twice is as good as once."""
        note = _Note()
        triplets, extender = self._watched(index, note, progress), self.extender
        extended = extender.extend(triplets) if extender else zip(triplets, itertools.repeat(None))
        records = itertools.starmap(encode_triplet, extended)
        path = self.folder / self.plan.file(index)
        shard = write_shard(path, note.measured_in(records))
        note.shard = dataclasses.asdict(shard)
        note.measured = extender.measured() if extender else {}
        write_atomically(self._note_path(index), json.dumps(dataclasses.asdict(note)) + "\n")

    def _watched(
        self, index: int, note: _Note, progress: Callable[[], object]
    ) -> Iterator[Triplet]:
        """Yields the triplets of a shard, and notes them and those that are bad."""
        part = self.plan.part(index)
        for position, item in zip(part, read_checked(self.source, part, self.check), strict=True):
            if isinstance(item, DataError):
                bad = BadExample.of(self.source.path, position, item)
                note.bad.append(dataclasses.asdict(bad))
            else:
                note.add(position, item)
                yield item
            progress()

    def _check_ids(self, index: int, note: _Note, places: dict[str, tuple[int, int]]) -> None:
        """Refuses an id that an earlier shard, or this one, has; `places` are those known."""
        for position, name in zip(note.positions, note.ids, strict=True):
            if name in places:
                first, other = places[name]
                for written in (other, index):  # whichever is mended is to be read again
                    self._note_path(written).unlink(missing_ok=True)
                raise DataError(
                    f"{self.source.path}: id {name!r} stands in the set twice, as example {first} "
                    f"and {position} (counted from 0); give them ids of their own: of a table "
                    'by --option columns={"id": ["COLUMN", "OTHER"]}'
                )
            places[name] = position, index

    def _note_path(self, index: int) -> epath.Path:
        return self.folder / _PROGRESS / f"{index:05d}.json"

    def _note(self, index: int) -> _Note:
        return _Note(**read_json(self._note_path(index)))

    def _is_finished(self, index: int) -> bool:
        """Whether a shard was finished by an earlier run, and nothing has been mended since."""
        if not self._is_whole(index):
            return False
        positions = [one["example"] for one in self._note(index).bad]
        return None not in find_bad(self.source, positions, self.check)

    def _is_whole(self, index: int) -> bool:
        """Whether a shard was finished, by whichever run, and has its content still."""
        if not self._note_path(index).exists():
            return False
        note = self._note(index)
        # Earlier versions did not note positions or lengths.
        noted = len(note.positions) == len(note.lengths) == len(note.ids)
        return noted and is_whole(self.folder, Shard(**note.shard))


def _check_bad(source: Source, notes: Sequence[_Note], allowed: int) -> list[BadExample]:
    """The bad examples, if no more than may be left out."""
    bad = [BadExample(**one) for note in notes for one in note.bad]
    total = len(bad) + sum(len(note.ids) for note in notes)
    if len(bad) > allowed or len(bad) == total:
        raise BadExamplesError(source.path, bad, allowed, total)
    if not all(note.ids for note in notes):
        raise DataError(
            f"{source.path}: all examples of a shard are bad; take fewer shards (--shard-mb, "
            "--min-shards)"
        )
    return with_ids(source, bad)


def _measured(
    notes: Sequence[_Note], index: Index, bad: Sequence[BadExample], extender: Extender | None
) -> dict[str, Any]:
    measured: dict[str, Any] = {
        REWARDED: int(is_rewarded(index).sum()),
        INDEX: index_digest(index),
    }
    if any(name for note in notes for name in note.groups):
        measured[GROUPS] = int(index["group"][-1]) + 1
    if several := sum(note.several for note in notes):
        measured[SEVERAL] = several
    if bad:
        measured[SKIPPED] = [dataclasses.asdict(one) for one in bad]
    if extender:
        measured |= extender.merged([note.measured for note in notes])
    return measured


def _remove_torn(folder: epath.Path) -> None:
    """Removes what a killed run was writing."""
    for place in (folder, folder / _PROGRESS):
        if place.exists():
            for path in place.iterdir():
                if path.name.startswith(".") and path.name.endswith(".tmp"):
                    path.unlink()


def _tidy(folder: epath.Path) -> None:
    _remove_torn(folder)
    if (folder / _PROGRESS).exists():
        (folder / _PROGRESS).rmtree()
    (folder / _CLAIM).unlink(missing_ok=True)
