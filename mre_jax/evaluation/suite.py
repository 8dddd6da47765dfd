"""What all benchmarks share: cases, the edits of a system, and values as rows of results.

A suite is a frozen dataclass in a file of `suites/` and a line in `suites/__init__.py`. Its fields
are the options of `mre evaluate`. Of a `MeasuredSuite` it says which rows a set of edits gets, of a
`judging.JudgedSuite` by which prompts it is judged.
"""

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from etils import epath

from mre_jax.errors import DataError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet, set_name
from mre_jax.evaluation.edits.bucket import check_local
from mre_jax.evaluation.edits.edits_folder import Names, find_edits
from mre_jax.evaluation.metrics.networks import Networks, NetworkSpec
from mre_jax.evaluation.preset import PRESETS
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.results_file import ResultsFile, opened
from mre_jax.evaluation.statistics.summary import summary_lines
from mre_jax.evaluation.system import Scores, SystemSpec
from mre_jax.judges.journal import BudgetError
from mre_jax.judges.outcome import Outcome

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor

Pictures = Mapping[str, Mapping[str, Path]]
"""Edited pictures by part of the suite and case id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite(abc.ABC):
    """A benchmark of editors; results of many systems and suites share an output folder.

    Attributes:
        data: benchmark.
        out: folder of results.jsonl and of the edits.
        preset: sizes, pictures and prompts as the paper says, as the released code does, or ours,
            which asks of quality with both pictures, sent as JPEG.
        system: whose edits are evaluated.

    Raises:
        ConfigError: if `out` is in a bucket.
    """

    data: epath.PathLike = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike
    preset: Literal["paper", "released_code", "ours"] = "paper"
    system: SystemSpec

    def __post_init__(self) -> None:
        check_local(self.out)

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What the folder of its edits is called."""

    @property
    @abc.abstractmethod
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """The cases by the name that the suite, or a part of it, has in results.

        Raises:
            DataError: if the benchmark is damaged.
        """

    @abc.abstractmethod
    def evaluate(self) -> list[Result]:
        """Makes the edits, or finds them, and gives each its values.

        What is in `out` already is neither made nor asked for again, so that the same call goes on
        with what was stopped.

        Returns:
            all rows of the system in this suite, those of other calls too.

        Raises:
            MreError: naming the option, picture or checkpoint that is wrong.
        """

    def summary(self, rows: Sequence[Result]) -> list[str]:
        """What a person wants to know of the rows of `evaluate`, by type of instruction too."""
        return summary_lines(rows, types=True)

    def notes(self) -> list[str]:
        """What a person must know before."""
        return []

    def picture_names(self, part: str) -> Names | None:
        """What the edits of a part may be called in others' folders; see `find_edits`."""
        return None

    def make(self, editor: "Editor", folder: Path, reward: Scores | None) -> Pictures:
        """Makes the edits of all parts in a folder, each case by itself."""
        return {part: editor.edit(cases, folder, reward) for part, cases in self.parts.items()}

    def chosen(
        self, editor: "Editor", folder: Path, reward: Scores | None
    ) -> tuple[Pictures, dict[str, Any]]:
        """The edits that count, made in a folder; and what rows of results say of their choice."""
        return self.make(editor, folder, reward), {}

    def edit_sets(self) -> Iterator[EditSet]:
        """The edits of every part, for every reward that is asked for.

        Raises:
            MreError: naming the option, picture or checkpoint that is wrong.
        """
        out = Path(self.out)
        if (folder := self.system.folder(out)) is not None:
            yield from self._sets(self.found(folder), self.system.condition)
            return
        editor = self.system.load(PRESETS[self.preset].size)
        for reward in self.system.rewards or (None,):
            condition = editor.condition(reward)
            folder = out / "edits" / self.name / set_name(self.system.name, condition)
            pictures, picked = self.chosen(editor, folder, reward)
            if not all(pictures.values()):
                raise DataError(f"{folder}: no edit could be made; its failed.jsonl says why")
            origin = {**editor.settings, **picked}
            yield from self._sets(pictures, condition, editor.checkpoint, origin)

    def found(self, folder: Path) -> Pictures:
        """The edits of all parts in a folder of somebody's.

        Raises:
            DataError: as `find_edits`.
        """
        allow_missing = self.system.allow_missing
        return {
            part: find_edits(
                folder, cases, names=self.picture_names(part), allow_missing=allow_missing
            )
            for part, cases in self.parts.items()
        }

    def _sets(
        self,
        pictures: Pictures,
        condition: str,
        checkpoint: str = "",
        origin: Mapping[str, Any] | None = None,
    ) -> Iterator[EditSet]:
        system, out = self.system.name, Path(self.out)
        for part, cases in self.parts.items():
            found = pictures[part]
            yield EditSet(part, system, condition, checkpoint, out, cases, found, origin or {})

    def _rows(self, results: ResultsFile, *systems: str) -> list[Result]:
        """What the file holds of the system, and of others, in this suite."""
        names = (self.system.name, *systems)
        rows = [row for row in results.rows.values() if row.system in names]
        return [row for part in self.parts for row in select(rows, suite=part)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredSuite(Suite):
    """A benchmark of metrics without a judge."""

    networks: NetworkSpec

    @abc.abstractmethod
    def measure(self, edits: EditSet, networks: Networks) -> Iterable[list[Result]]:
        """The rows of each metric; see `EditSet.rows`. A further metric is a line here."""

    def evaluate(self) -> list[Result]:
        """See `Suite.evaluate`."""
        _ = self.parts
        networks = self.networks.load()
        with opened(self.out) as results:
            for edits in self.edit_sets():
                for rows in self.measure(edits, networks):
                    results.add(rows)
            return self._rows(results)


def check_complete(rows: Sequence[Result]) -> None:
    """Refuses to call it a success where values are missing that another run may have.

    Raises:
        BudgetError: if the money did not suffice for all rows.
        DataError: if there is no value at all.
        MreError: as `Outcome.failure`, of what was judged.
    """
    judged = Outcome()
    for row in rows:
        if row.prompt_hash:
            series = f"{row.metric} of {row.system} {row.condition}".rstrip()
            used = row.provenance.get("max_tokens", "now")
            judged.count(series, row.status, row.reason[:200], max_tokens=used)
    if stopped := judged.statuses["budget_stopped"]:
        raise BudgetError(f"--max-usd: {stopped} scores are not covered; give more to go on")
    if failure := judged.failure(may_miss=True):
        raise failure
    if not any(row.status == "ok" for row in rows):
        raise DataError("no edit has a value; its failed.jsonl, or a warning above, says why")
