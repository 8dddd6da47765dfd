"""What the jobs of this room are asked: everything that `mre edit` and `mre sample` can set."""

import dataclasses

from etils import epath

from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.request import EditConditions
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import RESOLUTION, SIZE, Size, parse_size
from mre_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditingSpec:
    """How edits are made, whatever the pictures and instructions.

    Attributes:
        model: what edits.
        sampling: how it samples.
        conditions: what every edit is made under.
        size: paper, released_code, keep or WIDTHxHEIGHT.
        resolution: pixels of the size presets.
        batch_size: edits at a time on each device.

    Raises:
        ConfigError: for a size or a batch size that cannot be.
    """

    model: ModelSpec = dataclasses.field(default_factory=ModelSpec)
    sampling: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    conditions: EditConditions = dataclasses.field(
        default_factory=EditConditions,
        metadata={"title": "conditions; the reward for checkpoints that take one"},
    )
    size: str | Size = SIZE
    resolution: int = RESOLUTION
    batch_size: int = 4

    def __post_init__(self) -> None:
        parse_size(self.size)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size {self.batch_size} is not a positive number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditSpec(EditingSpec):
    """One photo to edit, or a grid of its edits over rewards.

    Attributes:
        photo: picture to edit.
        prompt: what to do to it: "make it snow".
        out: PNG to write.
        sweep: instead of one edit a grid: the three scores together, then each alone with the
            others at --reward, at each of these values (0,3,5).
        batch_size: edits of a sweep at a time.
    """

    photo: epath.PathLike = dataclasses.field(metadata={"positional": True})
    prompt: str = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike = dataclasses.field(metadata={"flag": ("-o", "--out")})
    sweep: tuple[float, ...] | None = dataclasses.field(
        default=None, metadata={"metavar": "R,R,..."}
    )
    batch_size: int = 1


def parse_shard(text: str) -> tuple[int, int]:
    """Reads "I/N".

    Raises:
        ConfigError: unless 0 <= I < N.

    Example:
        >>> parse_shard("0/4")
        (0, 4)
    """
    parts = text.split("/")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        index, count = int(parts[0]), int(parts[1])
        if index < count:
            return index, count
    raise ConfigError(f"--shard {text!r}: want I/N with I from 0 to N-1, as 0/4")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleSpec(EditingSpec):
    """A list of edits to make in batches over all devices.

    Attributes:
        items: JSON lines: {"id": "dog-snow", "image": "dog.jpg", "prompt": "make it snow"}.
        out: folder of pictures and results.jsonl.
        shard: do every N-th item from the I-th, counted from 0 (by default this host's of all).
    """

    items: epath.PathLike = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike
    shard: tuple[int, int] | None = dataclasses.field(
        default=None, metadata={"metavar": "I/N", "parse": parse_shard}
    )
