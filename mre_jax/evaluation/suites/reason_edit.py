"""Reason-Edit (Huang et al. 2024, SmartEdit): whether the right thing was edited, and it alone.

The parts are "reason-edit-understanding", whose numbers are the means over the pictures of all five
classes together, and "reason-edit-reasoning". The authors' script never scores the latter: it walks
to folders whose names end in "Reasoning-231115" and then asks for "6-Reasoning". Here it is scored
as the others are.

clip_score       what the edited picture shows in the box of the mask, and the target phrase
psnr_masked      edited beside original picture, both times 1 - mask/255; so are
ssim_masked, lpips_masked and mse_masked; see `metrics.masked` for where they may differ from
                 the authors' numbers
ins_align        1 if a judge, or people, say that the instruction was followed, else 0; the mean
                 over people and pictures is Ins-align. Without --judge it is not asked.

The authors edit at 256x256 with 100 steps, text guidance 7.5, image guidance 1.5, and a random
seed for each picture. The presets of this program are others; --size 256x256 and --steps 100 come
near.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.edits.edits_folder import Names
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.metrics.masked import (
    MEASURE,
    MEASURE_CROP,
    PIXEL_METRICS,
    crop_to_mask,
    masked_pairs,
    masked_values,
)
from mre_jax.evaluation.metrics.networks import MaskedNetworkSpec, Networks
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.results_file import opened
from mre_jax.evaluation.suites.reason_edit_folder import (
    REASONING,
    UNDERSTANDING,
    Folder,
    read_folder,
)
from mre_jax.judges.spec import JudgeSpec

PARTS = {
    "understanding": ("reason-edit-understanding", UNDERSTANDING),
    "reasoning": ("reason-edit-reasoning", REASONING),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasonEdit(JudgedSuite):
    """Reason-Edit's test set.

    Attributes:
        data: folder of 1-Left-Right, 2-Relative-Size and so on.
        group: understanding (five classes), reasoning, or both.
        networks: CLIP, LPIPS or both; the distances of pixels need none.
        judge: who says whether instructions were followed; without one only metrics are taken.

    Example:
        >>> from mre_jax import SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = ReasonEdit(
        ...     data="ReasonEdit", group="reasoning",
        ...     out="out", system=system,
        ... )
        >>> suite.name
        'reason-edit'
    """

    group: Literal["understanding", "reasoning", "both"] = "both"
    networks: MaskedNetworkSpec = dataclasses.field(default_factory=MaskedNetworkSpec)
    judge: JudgeSpec = dataclasses.field(default_factory=JudgeSpec)
    pack: str | None = "ins-align-ours"

    name = "reason-edit"

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`: one for each group that is asked for."""
        return {
            part: [case for folder in folders for case in folder.cases]
            for part, folders in self._folders.items()
        }

    @functools.cached_property
    def _folders(self) -> Mapping[str, Sequence[Folder]]:
        root = fetched(self.data, self.out)
        return {
            part: [read_folder(root / name) for name in names]
            for group, (part, names) in PARTS.items()
            if self.group in (group, "both")
        }

    def picture_names(self, part: str) -> Names:
        """See `Suite.picture_names`; as the items, as the pictures, or as the authors' script."""
        found = {}
        edited = {**UNDERSTANDING, **REASONING}
        for folder in self._folders[part]:
            for number, case in enumerate(folder.cases, 1):
                name = case.original.parent.name
                official = f"{edited[name]}/{number:04d}_T7.5_I1.5"
                found[case.id] = [case.id, f"{name}/{case.original.stem}", official]
        return found

    def notes(self) -> list[str]:
        """See `Suite.notes`; and what does not pair by name."""
        odd = [folder.note for part in self._folders.values() for folder in part if folder.note]
        return [*odd, *(super().notes() if self.judge.name else [])]

    def evaluate(self) -> list[Result]:
        """See `Suite.evaluate`; what people or a judge say, if they are asked, and the metrics."""
        networks = self.networks.load()
        judged = super().evaluate() if self.judge.name else []
        people = any(row.people for row in judged)
        with opened(self.out) as results:
            for edits in self._edits:
                for rows in self.measure(edits, networks):
                    results.add(rows)
            return [row for row in self._rows(results) if people or not row.people]

    def edit_sets(self) -> Iterator[EditSet]:
        """See `Suite.edit_sets`; made once for the judge and the metrics."""
        yield from self._edits

    @functools.cached_property
    def _edits(self) -> Sequence[EditSet]:
        return list(super().edit_sets())

    def measure(self, edits: EditSet, networks: Networks) -> Iterator[list[Result]]:
        """The rows of each metric; see `EditSet.rows`."""
        masks = [case.masks[0] for case in edits.made]
        triples = list(zip(edits.edited, edits.originals, masks, strict=True))
        values = masked_values(triples)
        for name in PIXEL_METRICS:
            yield edits.rows(name, [value[name] for value in values], MEASURE)
        if (lpips := networks.lpips) is not None:
            distances = lpips.distance(masked_pairs(triples))
            yield edits.rows("lpips_masked", distances, f"{lpips.measure}, {MEASURE}")
        if (clip := networks.clip) is not None:
            crops = (crop_to_mask(edited, mask) for edited, _, mask in triples)
            scores = clip.clip_score(crops, edits.captions("edited_local"))
            yield edits.rows("clip_score", scores, f"{clip.measure}, {MEASURE_CROP}")
