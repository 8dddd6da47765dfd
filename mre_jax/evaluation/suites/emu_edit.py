"""Emu Edit's test set, which has captions and no true edits.

clip_direction   whether the picture moved as its caption did; a pair of equal captions, which have
                 no direction, has no value
clip_i, dino     edited beside original picture
clip_t           edited picture and its caption
l1               edited beside original picture
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.metrics.networks import Networks, PairNetworkSpec
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.suite import MeasuredSuite
from mre_jax.evaluation.suites.case_table import Columns, read_cases, read_rows

SUITE = "emu-edit"
COLUMNS = Columns(
    id=("hash", "id", "idx"),
    instruction=("instruction",),
    picture=("image",),
    kind=("task",),
    captions={"original": ("input_caption",), "edited": ("output_caption",)},
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmuEdit(MeasuredSuite):
    """Emu Edit's test set.

    Attributes:
        data: parquet files of emu_edit_test_set, or a .jsonl of its columns.
        split: split of the parquet files.
        networks: CLIP, DINO or both; L1 needs none.

    Example:
        >>> from mre_jax import SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = EmuEdit(
        ...     data="emu_edit_test_set", networks=PairNetworkSpec(clip="clip-vit-base-patch32"),
        ...     out="out", system=system,
        ... )
        >>> suite.name
        'emu-edit'
    """

    split: str = "test"
    networks: PairNetworkSpec = dataclasses.field(default_factory=PairNetworkSpec)

    name = SUITE

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`."""
        pictures = Path(self.out) / "originals" / SUITE
        return {SUITE: read_cases(read_rows(self.data, self.split), self.data, COLUMNS, pictures)}

    def measure(self, edits: EditSet, networks: Networks) -> Iterator[list[Result]]:
        """See `MeasuredSuite.measure`."""
        yield from edits.pixel_rows(edits.originals, ("l1",))
        if (clip := networks.clip) is not None:
            before, after = edits.captions("original"), edits.captions("edited")
            direction = clip.direction(edits.originals, edits.edited, before, after)
            moved = [
                None if a.split() == b.split() else value
                for value, a, b in zip(direction, before, after, strict=True)
            ]
            yield edits.rows("clip_direction", moved, clip.measure)
            similar = clip.clip_i(edits.edited, edits.originals)
            yield edits.rows("clip_i", similar, clip.measure)
            yield edits.rows("clip_t", clip.clip_t(edits.edited, after), clip.measure)
        if (dino := networks.dino) is not None:
            similar = dino.similarity(edits.edited, edits.originals)
            yield edits.rows("dino", similar, dino.measure)

    def summary(self, rows: Sequence[Result]) -> list[str]:
        """See `Suite.summary`; says how many pairs of captions have no direction."""
        pairs = [row for row in select(rows, metric="clip_direction") if row.edited]
        equal = sum(row.value is None for row in pairs)
        said = f"clip_direction: {equal} of {len(pairs)} pairs have equal captions and are left out"
        return [*([said] if equal else []), *super().summary(rows)]
