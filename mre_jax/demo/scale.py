"""How large the demo is."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Scale:
    """Sizes of a demo.

    Attributes:
        examples: triplets that are trained on.
        steps: of each training.
        scenes: of the benchmark; each has seven instructions.
        sampling_steps: of an edit.
        rewards: what is asked of the editor with rewards, as `mre evaluate --rewards` reads it.
        ablations: whether the trainings of Tables 4, 5 and 10 and of filtering are run too.
        proves: whether the claims must hold.
    """

    examples: int
    steps: int
    scenes: int
    sampling_steps: int
    rewards: str
    ablations: bool
    proves: bool


SINGLE = "0/5/5,5/0/5,5/5/0"
"""One perspective at a time, for the controllability matrix."""

QUICK = Scale(96, 8, 1, 2, "0,5", ablations=False, proves=False)
STANDARD = Scale(6000, 750, 24, 16, f"0,3,5,{SINGLE}", ablations=False, proves=True)
FULL = Scale(8000, 750, 40, 16, f"0,1,2,3,4,5,{SINGLE}", ablations=True, proves=True)
