"""What the paper says of an evaluation, and what its released code does.

| | paper | released_code |
| --- | --- | --- |
| size | shorter side 512 | longer side about 512, InstructPix2Pix's rule |
| pictures for the judge | as edited | height 512, JPEG 75 |
| quality is judged | of the edited beside the original picture | of the edited picture alone |
"""

import dataclasses

from mre_jax.evaluation.judging import AS_EDITED


@dataclasses.dataclass(frozen=True)
class Preset:
    """One way to run Real-Edit.

    Attributes:
        size: see `mre_jax.editing.size.target_size`.
        pictures: see `judging.judge_edits`.
        pack: the prompts.
    """

    size: str
    pictures: str
    pack: str


PRESETS = {
    "paper": Preset("paper", AS_EDITED, "paper-evaluation"),
    "released_code": Preset("released_code", "jpeg:75:512", "released-evaluation"),
}
