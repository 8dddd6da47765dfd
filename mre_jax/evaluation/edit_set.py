"""The edits of one system, under one reward, of the cases of a suite; and rows of what they get."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mre_jax.data.triplets import safe_name
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.metrics.pixel import (
    MEASURE,
    MEASURE_OUTSIDE,
    measure_pair,
    outside_masks,
)
from mre_jax.evaluation.results import WHOLE_SET, Result
from mre_jax.io.image import read_image

if TYPE_CHECKING:
    from mre_jax.evaluation.metrics.inception_scores import SetScore


@dataclasses.dataclass(frozen=True)
class EditSet:
    """Whose edits are evaluated, where they are, and where the results go.

    Attributes:
        suite, system, condition, checkpoint: see `Result`.
        folder: folder of the results file.
        cases: all of the suite, in order.
        pictures: files of the edits by case id; a case without one is "missing".
        origin: how they were made or picked of several, for `Result.provenance`.
    """

    suite: str
    system: str
    condition: str
    checkpoint: str
    folder: Path
    cases: Sequence[Case]
    pictures: Mapping[str, Path]
    origin: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def made(self) -> list[Case]:
        """The cases that have an edit."""
        return [case for case in self.cases if case.id in self.pictures]

    @property
    def edited(self) -> list[Path]:
        """The edited pictures, one a case of `made`."""
        return [self.pictures[case.id] for case in self.made]

    @property
    def originals(self) -> list[Path]:
        """The original pictures, one a case of `made`."""
        return [case.original for case in self.made]

    @property
    def targets(self) -> list[Path]:
        """The true edits, one a case of `made`."""
        return [case.target for case in self.made if case.target is not None]

    def captions(self, which: str) -> list[str]:
        """A caption of each case of `made`; see `Case`."""
        return [case.captions[which] for case in self.made]

    @property
    def name(self) -> str:
        """The system and its reward, for people and for file names."""
        return set_name(self.system, self.condition)

    def row(self, case: Case, metric: str, value: float | None = None, **fields: Any) -> Result:
        """The row of one value of one edit.

        Args:
            fields: any others of `Result`; without a value the status is "missing" by default.
        """
        edited = self.pictures.get(case.id)
        if self.origin:
            fields["provenance"] = {**fields.get("provenance", {}), **self.origin}
        return Result(
            system=self.system,
            condition=self.condition,
            suite=self.suite,
            item=case.id,
            group=case.group,
            kind=case.kind,
            subsets=case.subsets,
            metric=metric,
            value=value,
            checkpoint=self.checkpoint,
            instruction=case.instruction,
            original=self._relative(case.original),
            edited=self._relative(edited) if edited else "",
            **{"status": "missing" if value is None else "ok", **fields},
        )

    def rows(self, metric: str, values: Iterable[float | None], measure: str) -> list[Result]:
        """A row for every case; those without an edit or a value are "missing".

        Args:
            values: one a case of `made`.
            measure: network, weights and preprocessing; see `Result`.
        """
        found = {case.id: value for case, value in zip(self.made, values, strict=True)}
        ordered = [*self.made, *(case for case in self.cases if case.id not in found)]
        pairs = [(case, found.get(case.id)) for case in ordered]
        return [
            self.row(case, metric, None if value is None else float(value), measure=measure)
            for case, value in pairs
        ]

    def pixel_rows(
        self, references: Sequence[Path], metrics: Sequence[str]
    ) -> Iterator[list[Result]]:
        """Rows of metrics of `pixel.METRICS`, of every edit beside a reference."""
        values = [
            measure_pair(read_image(edited), read_image(reference), metrics=metrics)
            for edited, reference in zip(self.edited, references, strict=True)
        ]
        for name in metrics:
            yield self.rows(name, [found[name] for found in values], MEASURE)

    def outside_rows(self) -> Iterator[list[Result]]:
        """Rows of L1 and L2 of every edit beside its original, outside the case's masks.

        None if no case has masks. Where one has none, or they leave nothing outside, there is no
        value.
        """
        if not any(case.masks for case in self.cases):
            return
        values = [outside_masks(self.pictures[c.id], c.original, c.masks) for c in self.made]
        for name in ("l1", "l2"):
            found = [value.get(name) for value in values]
            yield self.rows(f"{name}_outside", found, MEASURE_OUTSIDE)

    def set_rows(self, scores: Iterable["SetScore"], measure: str) -> list[Result]:
        """A row for every value that the whole set has; its size is part of the measure."""
        return [
            Result(
                system=self.system,
                condition=self.condition,
                suite=self.suite,
                item=WHOLE_SET,
                group=WHOLE_SET,
                kind="",
                metric=score.metric,
                value=float(score.value),
                measure=f"{measure}, n={score.n_reference} and {score.n_generated}",
                checkpoint=self.checkpoint,
                provenance={**self.origin},
            )
            for score in scores
        ]

    def _relative(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()


def set_name(system: str, condition: str) -> str:
    """A system and its reward as a name of files.

    Example:
        >>> set_name("ours", "5,5,5")
        'ours-5-5-5'
    """
    return safe_name(f"{system} {condition}".strip())
