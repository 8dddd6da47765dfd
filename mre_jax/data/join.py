"""Triplets with their rewards: the part of a source that has been judged."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mre_jax.data.sources.source import Keys, Source
from mre_jax.data.triplets import Triplet
from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.file import Reward

THRESHOLD = 0.95


@dataclasses.dataclass(frozen=True)
class JoinReport:
    """How the keys of the rewards met the examples of a source.

    Attributes:
        key: "folder" or "row", what the keys were taken for.
        rewards: number of rewards.
        joined: rewards that met an example.
        elsewhere: rewards of examples that another split of the set holds.
        ambiguous: joined ones whose folder holds several pairs, of which the reward describes
            one that nothing names.
        triplets: examples of the source.
        missing: the first keys that met nothing.
        kept: whether examples without a reward stay.
    """

    key: str
    rewards: int
    joined: int
    elsewhere: int
    ambiguous: int
    triplets: int
    missing: tuple[str, ...]
    kept: bool = False

    @property
    def rate(self) -> float:
        """Share of the rewards that met an example, those of other splits left aside."""
        return self.joined / max(self.rewards - self.elsewhere, 1)

    @property
    def unjudged(self) -> int:
        """Triplets that no reward met."""
        return self.triplets - self.joined

    def __str__(self) -> str:
        parts = [
            f"joined by {self.key}: {self.joined} of {self.rewards} rewards ({self.rate:.1%}) met "
            f"one of {self.triplets} triplets"
        ]
        if self.elsewhere:
            parts.append(f"{self.elsewhere} belong to other splits")
        if self.missing:
            parts.append(f"missing are {', '.join(self.missing)}, ...")
        if self.ambiguous:
            parts.append(
                f"{self.ambiguous} have folders of several pairs, of which each reward is taken "
                "for one, chosen by seed and folder: take the folders that came with the rewards"
            )
        return "; ".join(parts)


class Judged:
    """The examples of a source with their rewards, as a source of their own.

    Attributes:
        report: how they were joined.
    """

    def __init__(self, source: Source, report: JoinReport, rewards: Mapping[int, Reward]):
        self.name = source.name
        self.path = source.path
        self.report = report
        self._source = source
        self._positions = range(len(source)) if report.kept else sorted(rewards)
        self._rewards = rewards

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def rewards(self) -> list[Reward | None]:
        """The reward of each example, where it has one."""
        return [self._rewards.get(position) for position in self._positions]

    def keys(self) -> Keys:
        keys = self._source.keys()
        names = keys.names
        return Keys(
            rows=[keys.rows[p] for p in self._positions],
            total=keys.total,
            names=None if names is None else [names[p] for p in self._positions],
            elsewhere=keys.elsewhere,
            aliases={
                new: keys.aliases[old]
                for new, old in enumerate(self._positions)
                if old in keys.aliases
            },
            ambiguous=keys.ambiguous,
        )

    def read(self, positions: Sequence[int]) -> Iterator[Triplet | DataError]:
        chosen = [self._positions[position] for position in positions]
        for position, triplet in zip(chosen, self._source.read(chosen), strict=True):
            reward = self._rewards.get(position)
            if isinstance(triplet, Triplet) and reward is not None:
                triplet = dataclasses.replace(triplet, scores=reward.scores, texts=reward.texts)
            yield triplet


def join(
    source: Source,
    rewards: Mapping[str, Reward],
    *,
    key: str = "auto",
    threshold: float = THRESHOLD,
    keep_unjudged: bool = False,
) -> Judged:
    """Gives the examples of a source their rewards.

    The share that has to meet is of the rewards, not of the examples: a public file judges 20
    thousand of 313 thousand.

    Args:
        source: any; a part of it is chosen afterwards.
        rewards: rewards by `read_rewards`.
        key: what the rewards' keys are: "folder" (or id), "row" of the whole set counted from 0,
            or "auto": whichever meets the threshold. Keys with leading zeros are no rows then.
        threshold: least share of the rewards that must meet an example.
        keep_unjudged: keep examples that no reward meets, instead of leaving them out.

    Raises:
        DataError: if fewer meet, or "auto" finds that both readings fit and differ.
        ConfigError: for an unknown `key`, a threshold out of range, or a source that has several
            examples by one name.
    """
    if key not in ("auto", "folder", "row"):
        raise ConfigError(f"key {key!r}: want 'auto', 'folder' or 'row'")
    if not 0 < threshold <= 1:
        raise ConfigError(f"join threshold {threshold} is not in (0, 1]")
    keys = source.keys()
    found: dict[str, dict[str, int]] = {}
    if key != "row":
        found["folder"] = _meet(_names(keys, rewards), {n: n for n in rewards}, source.path)
    if key != "folder":
        found["row"] = _meet(_judged_rows(keys), _rows(rewards, strict=key == "row"), source.path)
    reports = {kind: _report(kind, met, rewards, keys) for kind, met in found.items()}
    fitting = [kind for kind, report in reports.items() if report.rate >= threshold]
    if not fitting:
        best = max(reports.values(), key=lambda report: report.rate)
        raise DataError(f"{source.path}: {best}; the least is {threshold:.0%}{_example(keys)}")
    if len(fitting) > 1 and found["folder"] != found["row"]:
        raise DataError(
            f"{source.path}: the rewards' keys fit both as folders and as rows, and differ; "
            "say key='folder' or key='row'"
        )
    kind = fitting[0]
    report = dataclasses.replace(reports[kind], kept=keep_unjudged)
    return Judged(source, report, {p: rewards[k] for k, p in found[kind].items()})


def _meet(labels: Iterable[Any], keys: Mapping[Any, str], path: str) -> dict[str, int]:
    """The position of every key whose label an example bears."""
    met: dict[str, int] = {}
    for position, label in enumerate(labels):
        key = keys.get(label)
        if key is None:
            continue
        if key in met:
            raise ConfigError(
                f"{path}: several examples are called {label!r}, and the reward describes one of "
                "them; give them ids of their own"
            )
        met[key] = position
    return met


def _names(keys: Keys, rewards: Mapping[str, Reward]) -> Iterator[str | None]:
    """What the rewards call each example: its own name, or its folder's."""
    for position, name in enumerate(keys.names or ()):
        yield name if name in rewards else keys.aliases.get(position)


def _judged_rows(keys: Keys) -> Iterator[int | None]:
    """The row of each example; of several in one row, of the one that a reward is taken for."""
    times = Counter(keys.rows)
    for position, row in enumerate(keys.rows):
        yield row if times[row] == 1 or position in keys.aliases else None


def _rows(rewards: Iterable[str], strict: bool) -> dict[int, str]:
    """The keys by row number.

    Args:
        strict: refuse what is no row number; otherwise one such key makes all of them none.
    """
    rows: dict[int, str] = {}
    for key in rewards:
        number = key.isascii() and key.isdigit()
        if strict and not number:
            raise DataError(f"key {key!r} of the rewards is no row number; try key='folder'")
        if not number or (not strict and key != str(int(key))):
            return {}
        if int(key) in rows:
            raise DataError(f"keys {rows[int(key)]!r} and {key!r} of the rewards are the same row")
        rows[int(key)] = key
    return rows


def _report(
    kind: str, met: Mapping[str, int], rewards: Mapping[str, Reward], keys: Keys
) -> JoinReport:
    elsewhere = {key for key in rewards if key not in met and _is_elsewhere(kind, key, keys)}
    missing = (key for key in rewards if key not in met and key not in elsewhere)
    return JoinReport(
        key=kind,
        rewards=len(rewards),
        joined=len(met),
        elsewhere=len(elsewhere),
        ambiguous=sum(_is_ambiguous(kind, *pair, keys) for pair in met.items()),
        triplets=len(keys.rows),
        missing=tuple(itertools.islice(missing, 3)),
    )


def _is_ambiguous(kind: str, key: str, position: int, keys: Keys) -> bool:
    """Whether the key means a folder of several pairs, and not one of these."""
    if kind == "row" and keys.names is not None:
        names = keys.names[position], keys.aliases.get(position)
        return any(name in keys.ambiguous for name in names)
    return key in keys.ambiguous


def _is_elsewhere(kind: str, key: str, keys: Keys) -> bool:
    """Whether the set has what this key names, if not in this split."""
    if kind == "folder":
        return key in keys.elsewhere
    return key.isascii() and key.isdigit() and int(key) < keys.total


def _example(keys: Keys) -> str:
    if keys.names is None:
        return "; this set has row numbers only"
    return f"; a folder here is called {keys.names[0]!r}" if keys.names else ""
