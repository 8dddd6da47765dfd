"""What the paper says of an evaluation, what its released code does, and what we would do.

| | paper | released_code | ours |
| --- | --- | --- | --- |
| size | shorter side 512 | longer side about 512, InstructPix2Pix's rule | as paper |
| pictures for the judge | as edited | `sent_pictures.AS_RELEASED` | as edited, JPEG 95 |
| prompts | Fig. 16 | the script's own, of the user's copy; or Fig. 16 | `paired-quality-ours` |
| request | JSON schema, temperature 0 | no schema, no temperature, `max_tokens` 50 | as paper |

The paper calls quality relative to the input and shows the judge the edited picture alone; ours
shows both, in a quarter of the bytes. The script's prompts differ from Fig. 16 in headings, blanks
and the example's score, and its judge was gpt-4o-2024-05-13.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, AS_EDITED_JPEG, AS_RELEASED


@dataclasses.dataclass(frozen=True)
class Preset:
    """One way to run Real-Edit.

    Attributes:
        size: see `mre_jax.editing.size.target_size`.
        pictures: see `sent_pictures`.
        pack: the prompts.
        settings: options of a model judge, where the user sets none.
        note: what is to be said of it; "" for nothing.
    """

    size: str
    pictures: str
    pack: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""


PRESETS: dict[str, Preset] = {
    "paper": Preset("paper", AS_EDITED, "paper-evaluation"),
    "released_code": Preset(
        "released_code",
        AS_RELEASED,
        "paper-evaluation",
        {
            "form": "text",
            "temperature": None,
            "max_tokens": 50,
            "max_tokens_field": "max_tokens",
        },
        "released_code: the prompts are those of Fig. 16; for the script's own give --pack "
        "official:FOLDER, where FOLDER is gpt_eval of your copy of the released code",
    ),
    "ours": Preset("paper", AS_EDITED_JPEG, "paired-quality-ours"),
}
