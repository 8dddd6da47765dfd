"""One training example: a picture, its edit, the instruction between them, and maybe rewards."""

import dataclasses
import hashlib
import re

from PIL import Image

from mre_jax.data.provenance import Provenance
from mre_jax.errors import DataError
from mre_jax.io.image import decode_image
from mre_jax.reward.file import Texts, check_texts
from mre_jax.reward.scores import Scores, check_scores

ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_DIGITS = 10


@dataclasses.dataclass(frozen=True)
class Triplet:
    """An example whose pictures are the bytes of their files, decoded when they are asked for.

    Attributes:
        id: unique in its set and the same on every reading: 1 to 100 of A-Z a-z 0-9 . _ -
        original: the picture before the edit, as its file holds it (JPEG, PNG, ...).
        edited: the picture after the edit.
        instruction: what the edit was asked to do.
        original_caption: what the original picture shows.
        edited_caption: what the edited picture shows.
        scores: numbers from 0 to 5 for following, preserving and quality.
        texts: what is wrong in each of these perspectives.
        original_id: the id in its set, where that is of another form and `id` was made of it.
        source: the name of the set it comes from.
        instructions: all of those that an epoch draws one of, `instruction` among them; () if it
            has that one alone. Where only one can stand, as in a cache of texts, it is that one.
        group: what it shares with the examples of which an epoch reads one, as the pairs of a
            folder; "" if it is always read.
        provenance: how it came about, if a model made the edit; else None.
        where: file and row it was read from, for messages.
        same_size: whether pictures of two sizes are an error.

    Raises:
        DataError: if the id, a text or a score is not of this kind.
    """

    id: str
    original: bytes = dataclasses.field(repr=False)
    edited: bytes = dataclasses.field(repr=False)
    instruction: str
    original_caption: str | None = None
    edited_caption: str | None = None
    scores: Scores | None = None
    texts: Texts | None = None
    original_id: str = ""
    source: str = ""
    instructions: tuple[str, ...] = ()
    group: str = ""
    provenance: Provenance | None = None
    where: str = dataclasses.field(default="", compare=False)
    same_size: bool = dataclasses.field(default=True, compare=False)

    def __post_init__(self) -> None:
        where = self.where or f"triplet {self.id!r}"
        if not isinstance(self.id, str) or not ID.fullmatch(self.id):
            raise DataError(
                f"{where}: id {self.id!r} is not 1 to 100 letters, digits, '.', '_' or '-'"
            )
        for name in ("original", "edited"):
            if not isinstance(getattr(self, name), bytes) or not getattr(self, name):
                raise DataError(f"{where}: no {name} picture")
        for instruction in (self.instruction, *self.instructions):
            if not isinstance(instruction, str):
                raise DataError(f"{where}: the instruction {instruction!r} is not a text")
        for name in ("original_caption", "edited_caption"):
            if not isinstance(getattr(self, name), str | None):
                raise DataError(f"{where}: {name} {getattr(self, name)!r} is not a text")
        if self.scores is not None:
            object.__setattr__(self, "scores", check_scores(self.scores, where))
        if self.texts is not None:
            object.__setattr__(self, "texts", check_texts(self.texts, where))
        captions = self.original_caption or "", self.edited_caption or ""
        asked = self.instruction, *self.instructions
        for text in (self.original_id, self.group, *asked, *captions, *(self.texts or ())):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{where}: {text[:80]!r} is no Unicode text ({error.reason})"
                ) from None

    def original_image(self) -> Image.Image:
        """The picture before the edit as upright 8-bit RGB.

        Raises:
            DataError: if it cannot be decoded; see `mre_jax.io.image.decode_image`.
        """
        return self._decode(self.original, "original")

    def edited_image(self) -> Image.Image:
        """The picture after the edit; see `original_image`."""
        return self._decode(self.edited, "edited")

    def images(self) -> tuple[Image.Image, Image.Image]:
        """Both pictures, original first.

        Raises:
            DataError: if one cannot be decoded, or their sizes differ and are not to.
        """
        original, edited = self.original_image(), self.edited_image()
        if self.same_size and original.size != edited.size:
            sizes = " and ".join("{}x{}".format(*image.size) for image in (original, edited))
            raise DataError(
                f"{self.where or self.id}: original and edited picture differ in size, {sizes}"
            )
        return original, edited

    def _decode(self, data: bytes, which: str) -> Image.Image:
        return decode_image(data, f"{self.where or self.id}: {which} picture")


def safe_name(text: str) -> str:
    """The text as part of an id or a file name: letters, digits, ".", "_" and "-"."""
    name = _UNSAFE.sub("-", text).lstrip("._-")[:90]
    return name or "unnamed"


def safe_id(text: str) -> str:
    """An id for any text: the text if it is one, or else a safe name and some of its hash.

    Texts that differ have ids that differ, on every reading the same.
    """
    if ID.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return f"{safe_name(text)[: 99 - _DIGITS]}-{digest[:_DIGITS]}"
