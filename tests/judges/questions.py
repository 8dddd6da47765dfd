"""Questions to ask in tests."""

import functools
import io

from PIL import Image

from mre_jax.judges.packs import pack as prompt_pack
from mre_jax.judges.question import Question


def picture(colour=(200, 30, 30), size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


load_pack = functools.cache(prompt_pack.load_pack)
ORIGINAL, EDITED = picture(), picture((30, 30, 200))


def question(
    number=0, kind="ok", times=0, perspective="following", pack="paper-annotation", **more
):
    """One that the server of `tests.judges.server` answers by `kind`, for the first `times`."""
    return Question(
        item=f"item-{number}",
        perspective=perspective,
        pack=load_pack(pack),
        instruction=f"{kind} [{times}] #{number}",
        original=ORIGINAL,
        edited=EDITED,
        **more,
    )
