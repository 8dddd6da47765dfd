"""A checkpoint that makes the edits of a benchmark, as `mre sample` does."""

import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath

from mre_jax.editing.items import Item
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.size import parse_size
from mre_jax.errors import DataError, MreError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.system import Scores, SystemSpec
from mre_jax.io.json_file import read_json
from mre_jax.reward.scores import BEST, PERSPECTIVES
from mre_jax.reward.text import asked_text

if TYPE_CHECKING:
    from mre_jax.editing.pipeline import EditPipeline


@dataclasses.dataclass(frozen=True)
class Editor:
    """A model that is loaded, with everything that decides its pictures but the reward.

    Attributes:
        spec: what is set of it; its size is not open.
        pipeline: model on all devices.
        reward_texts: text of a score, per perspective; see `read_reward_texts`.
    """

    spec: SystemSpec
    pipeline: "EditPipeline"
    reward_texts: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, spec: SystemSpec) -> "Editor":
        """Loads the model of a system.

        Raises:
            MreError: naming the option or file that is wrong.
        """
        texts = read_reward_texts(spec.reward_texts) if spec.reward_texts else {}
        return cls(spec, spec.model.load().to_devices(), texts)

    def with_seed(self, seed: int) -> "Editor":
        """The same editor, whose noise is of another seed."""
        conditions = dataclasses.replace(self.spec.conditions, seed=seed)
        return dataclasses.replace(self, spec=dataclasses.replace(self.spec, conditions=conditions))

    @property
    def checkpoint(self) -> str:
        """Hash of the weights."""
        return self.pipeline.checkpoint

    @property
    def settings(self) -> dict[str, str]:
        """What decides the edits besides: the rest of `EditPipeline.provenance`."""
        found = self.pipeline.provenance
        return {name: value for name, value in found.items() if name != "checkpoint"}

    def condition(self, reward: Scores | None) -> str:
        """The name of a reward in results: "5,5,5"; "" for a checkpoint that takes none."""
        if not self.pipeline.takes_reward:
            return ""
        scores = reward or self.spec.conditions.reward_scores or BEST
        return ",".join(f"{score:g}" for score in scores)

    def edit(
        self, cases: Sequence[Case], folder: Path, reward: Scores | None = None
    ) -> dict[str, Path]:
        """Makes the edits that `folder` does not hold yet; returns all there are by case id.

        The noise of an edit depends on the seed and the case's id alone, so that it is the same
        under every reward, batch size and order.

        Args:
            folder: laid out as that of `mre sample`.
            reward: following, preserving, quality; None is what the conditions ask for.

        Raises:
            MreError: as `mre_jax.editing.sample.sample_items`.
        """
        from mre_jax.editing.sample import EditsFailed, sample_items

        out = OutputFolder(folder)
        failed: Collection[str] = ()
        try:
            sample_items(
                self.pipeline,
                self._items(cases, reward),
                out,
                model=self.spec.model,
                sampling=self.spec.sampling,
                size=parse_size(self.spec.size),
                resolution=self.spec.resolution,
                batch_size=self.spec.batch_size,
            )
        except EditsFailed as error:
            if not self.spec.allow_missing:
                raise DataError(f"{error}, or let them be missing with --allow-missing") from None
            failed = error.reasons
            said = f"{len(failed)} of {len(cases)} edits are missing; {out.failed} says why"
            warnings.warn(said, stacklevel=2)
        return {
            case.id: folder / "images" / f"{case.id}.png" for case in cases if case.id not in failed
        }

    def _items(self, cases: Sequence[Case], reward: Scores | None) -> list[Item]:
        conditions = self.spec.conditions
        if reward is not None:
            conditions = dataclasses.replace(conditions, reward_scores=reward)
            if self.reward_texts:
                text = asked_text(self.pipeline.perspectives, reward, self.reward_texts)
                conditions = dataclasses.replace(conditions, reward_text=text)
        items = []
        for case in cases:
            try:
                request = conditions.request(case.instruction, case.id)
            except MreError as error:
                raise type(error)(f"item {case.id}: {error}") from None
            items.append(Item(request, str(case.original), epath.Path(case.original)))
        return items


def read_reward_texts(path: epath.PathLike) -> dict[str, dict[str, str]]:
    """The file of --reward-words: {"following": {"0": "The edit is missing."}, ...}.

    Raises:
        DataError: if it is of another shape.
    """
    content = read_json(epath.Path(path))
    try:
        return {name: {str(k): str(v) for k, v in content[name].items()} for name in PERSPECTIVES}
    except (AttributeError, KeyError, TypeError):
        raise DataError(
            f"{path}: want an object of texts by score for each of {', '.join(PERSPECTIVES)}"
        ) from None
