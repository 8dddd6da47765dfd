"""MagicBrush: distances to the true edits, single and multi turn (Table 2).

Beside the official L1 and L2 there are PSNR, at most 100 dB for an edit equal to the true one, and
SSIM. Where the set has its masks, "l1_outside" and "l2_outside" are the distances to the original
outside of them, where nothing was to change.

CLIP-T is reported on global captions, "clip_t_global", which are the official script's default and
what Table 2 shows, and on local ones, "clip_t", which its repository's example takes. The same of
the true edits, the script's "oracle", is "clip_t_global_oracle" and "clip_t_oracle": what a perfect
editor would reach.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mre_jax.evaluation.case import Case, edit_in_turns
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.edits.bucket import fetched
from mre_jax.evaluation.edits.edits_folder import Names
from mre_jax.evaluation.metrics.networks import Networks, PairNetworkSpec
from mre_jax.evaluation.metrics.pixel import METRICS
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.suite import MeasuredSuite, Pictures
from mre_jax.evaluation.suites.magicbrush_sessions import (
    MULTI,
    SINGLE,
    Session,
    multi_name,
    read_sessions,
    single_name,
)
from mre_jax.evaluation.system import Scores

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor

TURNS = {"single": (SINGLE,), "multi": (MULTI,), "both": (SINGLE, MULTI)}
_CLIP_T = {"clip_t_global": "edited", "clip_t": "edited_local"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MagicBrush(MeasuredSuite):
    """MagicBrush's test set.

    Attributes:
        data: folder of edit_sessions.json and images/.
        turns: turns by themselves, what sessions come to, or both.
        networks: CLIP, DINO or both; the distances of pixels need none.

    Example:
        >>> from mre_jax import SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = MagicBrush(
        ...     data="magicbrush/test", turns="single",
        ...     out="out", system=system,
        ... )
        >>> suite.name
        'magicbrush'
    """

    turns: Literal["single", "multi", "both"] = "both"
    networks: PairNetworkSpec = dataclasses.field(default_factory=PairNetworkSpec)

    name = "magicbrush"

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`: every turn, what each session comes to, or both."""
        cases = {
            SINGLE: [turn for session in self._sessions for turn in session.turns],
            MULTI: [session.last for session in self._sessions],
        }
        return {part: cases[part] for part in TURNS[self.turns]}

    @functools.cached_property
    def _sessions(self) -> Sequence[Session]:
        return read_sessions(fetched(self.data, self.out))

    def picture_names(self, part: str) -> Names:
        """See `Suite.picture_names`; those of the official script."""
        name = single_name if part == SINGLE else multi_name
        return {case.id: [name(case.id)] for case in self.parts[part]}

    def make(self, editor: "Editor", folder: Path, reward: Scores | None) -> Pictures:
        """See `Suite.make`; `folder/official` holds the edits under the official names, too."""
        official = folder / "official"
        sessions = [session.turns for session in self._sessions]
        first = self.parts.get(SINGLE) or [turns[0] for turns in sessions]
        made = {SINGLE: editor.edit(first, folder / "single", reward)}
        _name_officially(official, made[SINGLE], single_name)
        if MULTI in self.parts:

            def edit(number: int, cases: Sequence[Case]) -> dict[str, Path]:
                own = editor.edit(cases, folder / f"multi-{number}", reward)
                _name_officially(official, own, multi_name)
                return own

            made[MULTI] = edit_in_turns(sessions, made[SINGLE], edit)
        ids = {part: {case.id for case in cases} for part, cases in self.parts.items()}
        return {part: {id_: p for id_, p in made[part].items() if id_ in ids[part]} for part in ids}

    def measure(self, edits: EditSet, networks: Networks) -> Iterator[list[Result]]:
        """See `MeasuredSuite.measure`."""
        yield from edits.pixel_rows(edits.targets, tuple(METRICS))
        yield from edits.outside_rows()
        if (clip := networks.clip) is not None:
            yield edits.rows("clip_i", clip.clip_i(edits.edited, edits.targets), clip.measure)
            for metric, which in _CLIP_T.items():
                if all(which in case.captions for case in edits.made):
                    texts = edits.captions(which)
                    yield edits.rows(metric, clip.clip_t(edits.edited, texts), clip.measure)
                    oracle = clip.clip_t(edits.targets, texts)
                    yield edits.rows(f"{metric}_oracle", oracle, clip.measure)
        if (dino := networks.dino) is not None:
            similar = dino.similarity(edits.edited, edits.targets)
            yield edits.rows("dino", similar, dino.measure)


def _name_officially(folder: Path, edits: Mapping[str, Path], name: Callable[[str], str]) -> None:
    """Gives each edit its official name too, without a copy where the disk can do that."""
    for id_, path in edits.items():
        link = folder / f"{name(id_)}.png"
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.exists():
            continue
        with contextlib.suppress(OSError):
            os.link(path, link)
            continue
        shutil.copyfile(path, link)
