"""One question to a judge: an edit, or a pair of edits, seen from one perspective."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.judges.packs.pack import Prompt, PromptPack
from mre_jax.judges.picture import AS_IS, Picture

_SCHEMA = 1
_FIELDS = {"first": "edited", "second": "other"}
"""Fields of the pictures whose names in prompts of pairs are others."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What a judge is asked.

    Example:
        >>> from mre_jax.judges.packs.pack import load_pack
        >>> pack = load_pack("paper-annotation")
        >>> question = Question("item-1", "quality", pack, "make it rain", b"png", b"png too")
        >>> question.pictures
        (b'png too',)
        >>> question.key == Question("other", "quality", pack, "make it rain", b"", b"png too").key
        True

    Attributes:
        item: name of the edit, unique in its set.
        perspective: name of a perspective of the pack.
        pack: prompts, of which one is asked.
        instruction: what the edit was asked to do.
        original: file of the picture before the edit, exactly as it is sent, or one to be made.
        edited: file of the picture after the edit, likewise; of a pair that which is shown first.
        other: of a pair, the one that is shown second; None for a single edit.
        extra: what an exact judge needs besides: {"scene": ..., "edit": ...} of the toy world. No
            part of the key.
        encoding: how the pictures were encoded; see `judges.picture`.
        repeat: 0, or the number of a repetition that is to be asked anew.
        kind: type of the instruction, for packs that have prompts by type.

    Raises:
        ConfigError: if the pack does not have the perspective, or not for this type, or is for
            pairs and there is one edit, or the other way round.
    """

    item: str
    perspective: str
    pack: PromptPack
    instruction: str
    original: bytes | Picture = dataclasses.field(repr=False)
    edited: bytes | Picture = dataclasses.field(repr=False)
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    encoding: str = AS_IS
    repeat: int = 0
    kind: str = ""
    other: bytes | Picture | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        choices = self.pack.prompt(self.perspective, self.kind).answer.choices
        if bool(choices) != (self.other is not None):
            what = "two edits compared" if choices else "one edit scored"
            raise ConfigError(f"prompt pack {self.pack.name}: has {what}; take another pack")

    @property
    def prompt(self) -> Prompt:
        return self.pack.prompt(self.perspective, self.kind)

    @property
    def pictures(self) -> tuple[bytes, ...]:
        """The files of the pictures that the prompt shows, in its order."""
        return tuple(map(self.file, self.prompt.pictures))

    def file(self, name: str) -> bytes:
        """The file of the picture "original", "edited", or of a pair "first" or "second"."""
        picture = self._picture(name)
        return picture.data if isinstance(picture, Picture) else picture

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of all that determines the question, whoever answers; see `Judge.key`."""
        values = {
            "schema": _SCHEMA,
            "perspective": self.perspective,
            "prompt": self.prompt.hash,
            "encoding": self.encoding,
            "pictures": [_sha256(self._picture(name)) for name in self.prompt.pictures],
            "instruction": self.instruction,
            "repeat": self.repeat,
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def _picture(self, name: str) -> bytes | Picture:
        picture: bytes | Picture = getattr(self, _FIELDS.get(name, name))
        return picture


def _sha256(picture: bytes | Picture) -> str:
    if isinstance(picture, Picture):
        return picture.sha256
    return hashlib.sha256(picture).hexdigest()
