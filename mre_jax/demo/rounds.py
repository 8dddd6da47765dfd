"""What the uses of rewards are compared on: triplets with rewards, and a seed."""

import dataclasses
from pathlib import Path

from mre_jax.judges.spec import JudgeSpec
from mre_jax.toyworld.misjudgement import Misjudgement

EXACT = JudgeSpec("toy")
_NEVER_ERRS = Misjudgement()


@dataclasses.dataclass(frozen=True)
class Round:
    """Triplets with rewards, and a seed of the trainings on them: what all uses of rewards share.

    Attributes:
        share: of clean triplets, 0 to 1; None leaves it as the toy world draws them.
        judge: the error of the judge who gives the rewards, and who picks the best of several.
        seed: of every training.
    """

    share: float | None = None
    judge: Misjudgement = _NEVER_ERRS
    seed: int = 0

    @property
    def label(self) -> str:
        """What its triplets are called in tables and figures.

        Example:
            >>> Round(0.1).label, Round(judge=Misjudgement(noise=1)).label
            ('10 % clean', 'noise 1')
        """
        parts = [] if self.share is None else [f"{100 * self.share:g} % clean"]
        parts += [f"{name} {error}" for name, error in self._errors.items()]
        return ", ".join(parts) or "as drawn"

    @property
    def judged(self) -> JudgeSpec:
        """The judge whose rewards they are."""
        return dataclasses.replace(EXACT, options=dict(self._errors))

    @property
    def data(self) -> Path:
        """Folder of the triplets, relative to the demo's."""
        drawn = self.share is None and not self.judge
        label = self.label.replace(" %", "").replace(",", "").replace(" ", "-")
        return Path() if drawn else Path(label)

    @property
    def folder(self) -> Path:
        """Folder of what is trained, and of its results, relative to the demo's."""
        return self.data / f"seed-{self.seed}" if self.seed else self.data

    def name(self, step: str) -> str:
        """The name of a step of this round."""
        return "-".join((step, *self.folder.parts))

    @property
    def _errors(self) -> dict[str, str]:
        """As a command line has them."""
        errors = {"noise": self.judge.noise, "bias": self.judge.bias}
        return {name: f"{error:g}" for name, error in errors.items() if error}


MAIN_ROUND = Round()
