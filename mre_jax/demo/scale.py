"""How large the demo is."""

import dataclasses

from mre_jax.evaluation.system import Scores, parse_rewards
from mre_jax.toyworld.misjudgement import Misjudgement


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of a demo.

    Attributes:
        examples: pictures with an instruction that are trained on.
        steps: of each training.
        scenes: of the benchmark; each has seven instructions.
        sampling_steps: of an edit.
        rewards: what is asked of the editor with rewards.
        reward_guidance_scale: of the edits with reward guidance.
        ablations: whether the trainings of Tables 4, 5 and 10 are run too.
        uses: whether all uses of rewards are compared.
        seeds: trainings of each use.
        shares: of clean triplets, for each of which the uses are compared; None is as the toy
            world draws them.
        judges: judges that err, for each of which the uses are compared as the triplets are drawn.
        variants: triplets of each picture and instruction; pairs of them are preferences.
        proves: whether the claims must hold.
    """

    examples: int
    steps: int
    scenes: int
    sampling_steps: int
    rewards: tuple[Scores, ...]
    ablations: bool
    uses: bool
    proves: bool
    reward_guidance_scale: float = 1.2  # found on scenes that are not the benchmark's
    seeds: int = 1
    shares: tuple[float | None, ...] = (None,)
    judges: tuple[Misjudgement, ...] = ()
    variants: int = 1


SINGLE = "0/5/5,5/0/5,5/5/0"
"""One perspective at a time, for the controllability matrix."""

QUICK = Scale(96, 8, 1, 2, parse_rewards("0,5"), ablations=False, uses=False, proves=False)
STANDARD = Scale(
    6000, 750, 24, 16, parse_rewards(f"0,3,5,{SINGLE}"), ablations=False, uses=False, proves=True
)
FULL = Scale(
    4000,
    500,
    40,
    16,
    parse_rewards(f"0,1,2,3,4,5,{SINGLE}"),
    ablations=True,
    uses=True,
    proves=True,
    shares=(None, 0.05, 0.1, 0.25, 0.5),
    judges=(Misjudgement(noise=1.0), Misjudgement(noise=2.0), Misjudgement(noise=1.0, bias=1.0)),
    variants=2,
)
