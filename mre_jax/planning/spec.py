"""What `mre plan` is asked."""

import dataclasses

from mre_jax.errors import ConfigError
from mre_jax.judges.spec import JudgeSpec

SLICES = ("v5e:4x4", "v5e:8x8", "v6e:2x4", "v6e:4x4", "v6e:8x8")
"""What is compared when nothing is named."""


@dataclasses.dataclass(frozen=True)
class EditsSpec:
    """How the edits of a list are made.

    Attributes:
        model: the model; one that is not here has the sizes of Stable Diffusion 1.5.
        pixels: side of the pictures.
        steps: denoising steps.
        scheduler: heun takes two evaluations a step, all others one.
    """

    model: str = ""
    pixels: int = 512
    steps: int = 30
    scheduler: str = "euler_ancestral"

    def __post_init__(self) -> None:
        if self.pixels < 8 or self.pixels % 8:
            raise ConfigError(f"--pixels {self.pixels}: want a multiple of 8")
        if self.steps < 1:
            raise ConfigError(f"--steps {self.steps}: want 1 or more")


@dataclasses.dataclass(frozen=True)
class PlanSpec:
    """Where a run would be, and what is known of it.

    Attributes:
        topology: a slice by its grid, as v5e:4x4; may be repeated.
        chips: a slice by its size, as v6e-256 or h100-8; may be repeated.
        prices: a file of prices instead of the package's; see planning/prices.yaml.
        examples: size of the training set, where data.paths are not here to be looked at.
        inputs: what a step reads: cached latents and text states, cached latents, or pictures; by
            default what the sets hold, else texts.
        preempted_every: hours from one preemption of a spot slice to the next, on average.
        run: the run's directory; one in a bucket is compared with --zone.
        zone: where the chips are, as us-west4-a.
        compile: compile the step for each slice, by libtpu: exact memory, in ten minutes or more;
            kept in ~/.cache/mre_jax/compiled.yaml, and later estimates are fitted to it too.
        judge: a judge to give the examples rewards.
        edits: how the edits of `mre plan sample` are made.
    """

    topology: tuple[str, ...] = ()
    chips: tuple[str, ...] = ()
    prices: str | None = dataclasses.field(default=None, metadata={"metavar": "FILE"})
    examples: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    inputs: str | None = dataclasses.field(
        default=None, metadata={"choices": ("texts", "latents", "pictures")}
    )
    preempted_every: float = dataclasses.field(default=6.0, metadata={"metavar": "HOURS"})
    run: str | None = None
    zone: str | None = None
    compile: bool = False
    judge: JudgeSpec | None = dataclasses.field(
        default=None, metadata={"title": "a judge that gives the examples rewards"}
    )
    edits: EditsSpec = dataclasses.field(
        default_factory=EditsSpec, metadata={"title": "edits, of mre plan sample"}
    )

    def __post_init__(self) -> None:
        if self.examples is not None and self.examples < 1:
            raise ConfigError(f"--examples {self.examples}: want 1 or more")
        if not self.preempted_every > 0:
            raise ConfigError(f"--preempted-every {self.preempted_every:g}: want hours above 0")

    @property
    def slices(self) -> tuple[str, ...]:
        """All that are named; some to compare, if none is."""
        return (*self.topology, *self.chips) or SLICES
