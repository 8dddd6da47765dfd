"""A checkpoint that makes the edits of a benchmark, by the machinery of `mre sample`."""

import argparse
import dataclasses
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.commands import edit_options as arguments
from mre_jax.editing.items import Item
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.output_folder import OutputFolder
from mre_jax.editing.request import EditRequest
from mre_jax.editing.size import parse_size
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.case import Case
from mre_jax.io.json_file import read_json
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import asked_text

Scores = tuple[float, ...]


@dataclasses.dataclass
class Editor:
    """A loaded checkpoint with everything that decides its pictures but the reward.

    Attributes:
        pipeline: on all devices.
        settings: of sampling.
        fields: of every `EditRequest`.
        size, resolution: see `mre_jax.editing.size.target_size`.
        batch_size: edits at a time on each device.
        model: how `pipeline` computes, for the folder's record.
        words: the reward text of a score, per perspective; see `read_words`.
        allow_missing: leave out edits that cannot be made.
    """

    pipeline: Any
    settings: Any
    fields: Mapping[str, Any]
    size: str | tuple[int, int]
    resolution: int
    batch_size: int
    model: ModelSpec
    words: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    allow_missing: bool = False

    @property
    def checkpoint(self) -> str:
        """Hash of the weights."""
        return self.pipeline.checkpoint

    def condition(self, reward: Scores | None) -> str:
        """The name of a reward in results: "5,5,5"; "" for a checkpoint that takes none."""
        from mre_jax.reward.scores import BEST

        if not self.pipeline.takes_reward:
            return ""
        scores = reward or self.fields["reward_scores"] or BEST
        return ",".join(f"{score:g}" for score in scores)

    def edit(
        self, cases: Sequence[Case], folder: Path, reward: Scores | None = None
    ) -> dict[str, Path]:
        """Makes the edits that `folder` does not hold yet; returns all there are by case id.

        The noise of an edit depends on the seed and the case's id alone, so that it is the same
        under every reward, batch size and order.

        Args:
            folder: laid out as that of `mre sample`.
            reward: following, preserving, quality; None is what the options ask for.

        Raises:
            MreError: as `mre_jax.editing.sample.sample_items`.
        """
        from mre_jax.editing.sample import EditsFailed, sample_items

        fields = dict(self.fields)
        if reward is not None:
            fields["reward_scores"] = reward
            if self.words:
                fields["reward_text"] = asked_text(self.pipeline.perspectives, reward, self.words)
        items = [
            Item(
                EditRequest(**fields, prompt=case.instruction, id=case.id),
                str(case.original),
                epath.Path(case.original),
            )
            for case in cases
        ]
        out = OutputFolder(folder)
        failed: Collection[str] = ()
        try:
            sample_items(
                self.pipeline,
                items,
                out,
                model=self.model,
                sampling=self.settings,
                size=self.size,
                resolution=self.resolution,
                batch_size=self.batch_size,
            )
        except EditsFailed as error:
            if not self.allow_missing:
                raise DataError(f"{error}, or let them be missing with --allow-missing") from None
            failed = error.reasons
            told = f"{len(failed)} of {len(cases)} edits are missing; {out.failed} says why"
            warnings.warn(told, stacklevel=2)
        return {
            case.id: folder / "images" / f"{case.id}.png" for case in cases if case.id not in failed
        }


def load_editor(args: argparse.Namespace, size: str) -> Editor:
    """Loads the checkpoint that the options of `mre_jax.commands.edit_options` ask for.

    Raises:
        MreError: naming the option or file that is wrong.
    """
    if args.batch_size < 1:
        raise ConfigError(f"--batch-size {args.batch_size} is not a positive number")
    target = parse_size(size)
    settings = arguments.settings(args)
    fields = arguments.request_fields(args)
    pipeline = arguments.load_pipeline(args).to_devices()
    return Editor(
        pipeline=pipeline,
        settings=settings,
        fields=fields,
        size=target,
        resolution=args.resolution,
        batch_size=args.batch_size,
        words=read_words(args.reward_words) if args.reward_words else {},
        allow_missing=args.allow_missing,
        model=ModelSpec(dtype=args.dtype, attention=args.attention),
    )


def check_made(edited: Mapping[str, Path], folder: Path) -> None:
    """Refuses to evaluate nothing.

    Raises:
        DataError: if no edit of a run could be made.
    """
    if not edited:
        raise DataError(f"{folder}: no edit could be made; its failed.jsonl says why")


def read_words(path: str) -> dict[str, dict[str, str]]:
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


def parse_rewards(text: str) -> list[Scores]:
    """Reads a sweep: "0,3,5" is 0,0,0 and 3,3,3 and 5,5,5; "5/0/0" is one of single scores.

    Raises:
        ConfigError: if a part is neither a score nor three, or stands twice.
    """
    from mre_jax.editing.request import asked_scores

    rewards: list[Scores] = []
    for part in text.split(","):
        numbers = part.split("/")
        try:
            scores = [float(number) for number in numbers]
        except ValueError:
            raise ConfigError(
                f"--rewards {text!r}: {part!r} is no score; want 0,3,5 or 5/0/0,0/5/0"
            ) from None
        all_alike = len(scores) == 1
        reward = asked_scores(scores * len(PERSPECTIVES) if all_alike else scores, "--rewards")
        if reward in rewards:
            raise ConfigError(f"--rewards {text!r}: {part!r} stands in it twice")
        rewards.append(reward)
    return rewards
