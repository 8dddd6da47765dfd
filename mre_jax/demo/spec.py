"""What a caller sets of the demo."""

import dataclasses
from pathlib import Path

from mre_jax.demo.scale import FULL, QUICK, STANDARD, Scale
from mre_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DemoSpec:
    """How much of the story is told, and where.

    Attributes:
        out: folder for everything (runs/demo, runs/demo-quick or runs/demo-full).
        quick: try the chain in minutes, proving nothing.
        full: every use of rewards and all ablations of the paper, in hours.
        seeds: trainings of every use of rewards that --full compares; from two on, intervals are
            over them.
        restart: do not go on with what is there.

    Raises:
        ConfigError: if both sizes are asked for, or no or several seeds of one that has none.

    Example:
        >>> DemoSpec(quick=True).folder.as_posix()
        'runs/demo-quick'
    """

    out: Path | None = None
    quick: bool = False
    full: bool = False
    seeds: int = 1
    restart: bool = False

    def __post_init__(self) -> None:
        if self.quick and self.full:
            raise ConfigError("--quick and --full: give one of them")
        if self.seeds < 1 or (self.seeds > 1 and not self.full):
            raise ConfigError(f"--seeds {self.seeds}: want 1, or more with --full")

    @property
    def scale(self) -> Scale:
        """The sizes of everything."""
        scale = QUICK if self.quick else FULL if self.full else STANDARD
        return dataclasses.replace(scale, seeds=self.seeds)

    @property
    def folder(self) -> Path:
        """Folder for everything."""
        name = "demo-quick" if self.quick else "demo-full" if self.full else "demo"
        return Path(self.out or Path("runs") / name)
