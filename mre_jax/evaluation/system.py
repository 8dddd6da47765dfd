"""Whose edits are evaluated: a folder of anybody's, or a checkpoint that makes them."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epath

from mre_jax.editing.request import asked_scores
from mre_jax.editing.size import Size
from mre_jax.editing.spec import EditingSpec
from mre_jax.errors import ConfigError
from mre_jax.reward.scores import PERSPECTIVES

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor

Scores = tuple[float, ...]
"""A reward to ask for: following, preserving, quality."""


def parse_rewards(text: str) -> tuple[Scores, ...]:
    """Reads a sweep of rewards.

    Raises:
        ConfigError: if a part is neither a score nor one a perspective, or stands twice.

    Example:
        >>> parse_rewards("0,5/0/0")
        ((0.0, 0.0, 0.0), (5.0, 0.0, 0.0))
    """
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
    return tuple(rewards)


@dataclasses.dataclass(frozen=True)
class SystemSpec(EditingSpec):
    """A system and its edits, which are found in a folder or made by its model.

    Attributes:
        name: name in tables, as "InsPix2Pix".
        images: folder of its edits, named as the items, instead of --model.
        condition: reward that the edits of --images were asked for, as "5,5,5".
        allow_missing: go on without edits that --images lacks or --model cannot make; their rows
            say so.
        rewards: sweep of rewards: 0,3,5 asks for 0,0,0 and 3,3,3 and 5,5,5; 5/0/0 for single ones.
        reward_texts: JSON of the text that goes with each score of --rewards, by perspective
            ("None" for every score without).
        size: paper, released_code, keep or WIDTHxHEIGHT (as --preset).

    Raises:
        ConfigError: if the name is empty, or as `EditingSpec`.

    Example:
        >>> SystemSpec("ours", images="edits", condition="5,5,5").model.model
        ''
        >>> SystemSpec(" ")
        Traceback (most recent call last):
        mre_jax.errors.ConfigError: --system is empty; give the name that tables shall have
    """

    name: str = dataclasses.field(metadata={"flag": "--system"})
    images: epath.PathLike | None = None
    condition: str = ""
    allow_missing: bool = False
    rewards: tuple[Scores, ...] | None = dataclasses.field(
        default=None, metadata={"parse": parse_rewards}
    )
    reward_texts: epath.PathLike | None = dataclasses.field(
        default=None, metadata={"flag": "--reward-words", "metavar": "FILE"}
    )
    size: str | Size = dataclasses.field(default="", kw_only=True)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("--system is empty; give the name that tables shall have")
        if self.size:  # the preset's otherwise
            super().__post_init__()

    def folder(self, out: Path) -> Path | None:
        """The folder of `images` on this machine; None if a model makes the edits.

        Args:
            out: folder of the results, where pictures of a bucket are copied to.

        Raises:
            ConfigError: if rewards are to be asked for as well.
            DataError: if the bucket has no such folder.
        """
        from mre_jax.evaluation.edits.bucket import fetched

        if not self.images:
            return None
        if self.rewards is not None:
            raise ConfigError(
                "--rewards makes edits with --model; name those of --images with "
                "--condition, one reward at a time"
            )
        return fetched(self.images, out)

    def load(self, size: str) -> "Editor":
        """The model, ready to make edits.

        Args:
            size: where the spec has none.

        Raises:
            MreError: naming the option or file that is wrong.
        """
        from mre_jax.evaluation.edits.editor import Editor

        return Editor.load(dataclasses.replace(self, size=self.size or size))
