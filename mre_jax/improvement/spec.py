"""What a loop of `mre improve` is asked, beside the configuration of its trainings."""

import dataclasses

from etils import epath

from mre_jax.editing.request import EditConditions
from mre_jax.editing.settings import SamplingSettings
from mre_jax.editing.size import RESOLUTION, SIZE, Size, parse_size
from mre_jax.errors import ConfigError
from mre_jax.evaluation.edits.bucket import check_local
from mre_jax.judges.packs.pack import PACKS
from mre_jax.judges.spec import JudgeSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImproveSpec:
    """How an editor trains on its own edits.

    Attributes:
        held_out: pictures that decide when to stop, laid out as Real-Edit; none of them is trained
            on.
        out: folder of the loop.
        rounds: rounds, at most.
        edits: training examples whose pictures are edited in each round.
        seeds_per_edit: edits of each of these.
        max_own_share: share of own edits among the examples that are trained on, at most.
        min_rise: what the mean held-out score must rise by in a round for another one to follow.
        control: train as many steps without own edits too, and compare.
        pack: prompts for the edits of training pictures, as `mre annotate` takes them.
        picture: encoding of the pictures that are sent with these, likewise.
        scenes: triplets of `mre toy`, for the toy judge.
        sampling: how edits are sampled.
        conditions: what every edit is made under.
        size: paper, released_code, keep or WIDTHxHEIGHT.
        resolution: pixels of the size presets.
        batch_size: edits at a time on each device.
        judge: who scores, the edits of training pictures and the held-out ones; --max-usd is the
            ceiling of the whole loop.

    Raises:
        ConfigError: for a number out of range.
    """

    held_out: epath.PathLike = dataclasses.field(metadata={"metavar": "DIR"})
    out: epath.PathLike
    rounds: int = 2
    edits: int = 1000
    seeds_per_edit: int = 2
    max_own_share: float = 0.3
    min_rise: float = 0.0
    control: bool = False
    pack: str = PACKS[0]
    picture: str = "as-is"
    scenes: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "DIR"})
    sampling: SamplingSettings = dataclasses.field(default_factory=SamplingSettings)
    conditions: EditConditions = dataclasses.field(
        default_factory=EditConditions,
        metadata={"title": "conditions; the reward for checkpoints that take one"},
    )
    size: str | Size = SIZE
    resolution: int = RESOLUTION
    batch_size: int = 4
    judge: JudgeSpec

    def __post_init__(self) -> None:
        check_local(self.out)
        parse_size(self.size)
        for name in ("rounds", "edits", "seeds_per_edit", "batch_size"):
            if getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise ConfigError(f"{flag} {getattr(self, name)}: want at least 1")
        if not 0 < self.max_own_share < 1:
            raise ConfigError(
                f"--max-own-share {self.max_own_share:g}: want a share above 0 and below 1"
            )
