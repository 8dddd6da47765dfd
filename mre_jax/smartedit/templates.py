"""The words around an instruction: a system prompt, and pairs of a request and a reply.

A file of templates has the layout of the official ones, with the system prompt in a line of its own
(the official code keeps it elsewhere). `[cap]` stands for the instruction or the caption, ` [img].`
for the image tokens; numbers and lines of `#` are for readers:

    System: This is a conversation ...

    1.
    Human: Apply the change [cap] to this photograph.
    GPT: The change is applied here [img].

The released weights know the official words only, which are not this project's to give away. What
ships are words of its own, for training anew.
"""

import dataclasses
import hashlib
import re
import warnings
from pathlib import Path
from typing import Literal

from etils import epath

from mre_jax.errors import DataError

TEXT_PLACE = "[cap]"
"""Where a request has its instruction or caption."""
IMAGE_PLACE = " [img]."
"""How a reply ends, for the image tokens."""

_LINE = re.compile(r"(?P<kind>system|human|gpt):\s+(?P<text>.+)", re.IGNORECASE)
_FOR_READERS = re.compile(r"\s*(#+.*|\d+\.)?\s*")
_TOKEN = re.compile(r"<img_\d+>|<im_start>|<im_end>|</?s>|<unk>")
_WORDS = Path(__file__).parent / "words"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A request and the reply to it.

    Attributes:
        human: the request, with `[cap]` once.
        gpt: the reply, which ends in ` [img].`.
    """

    human: str
    gpt: str


@dataclasses.dataclass(frozen=True)
class Templates:
    """A system prompt and the pairs that are drawn from.

    Attributes:
        system: what stands before the conversation.
        pairs: at least one.
        own_words: whether the system prompt or the pairs are this project's own.
    """

    system: str
    pairs: tuple[Pair, ...]
    own_words: bool = False

    @classmethod
    def default(cls, kind: Literal["editing", "captions"] = "editing") -> "Templates":
        """The 30 pairs of this project's own words, for edits or for stage 1's captions.

        Example:
            >>> templates = Templates.default()
            >>> len(templates.pairs), templates.own_words
            (30, True)
        """
        return dataclasses.replace(cls.read(_WORDS / f"{kind}.txt", kind), own_words=True)

    @classmethod
    def read(
        cls, path: epath.PathLike, kind: Literal["editing", "captions"] = "editing"
    ) -> "Templates":
        """A user's file.

        Args:
            path: a text file in the layout above; without a system prompt it has this project's,
                and counts as its own words.
            kind: whose system prompt that is.

        Raises:
            DataError: if the file is missing or is not of this layout, naming its first such line.
        """
        path = epath.Path(path)
        if not path.is_file():
            raise DataError(f"{path} is missing; name a file of templates")
        return cls.parse(path.read_bytes(), str(path), kind)

    @classmethod
    def parse(
        cls, data: bytes, name: str, kind: Literal["editing", "captions"] = "editing"
    ) -> "Templates":
        """`read` for bytes at hand; `name` is what errors call them."""
        try:
            lines = data.decode("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise DataError(f"{name} is not UTF-8 text; name a file of templates") from None
        system, pairs = _parsed(name, lines)
        if system is not None:
            return cls(system, pairs)
        return cls(cls.default(kind).system, pairs, own_words=True)

    @property
    def text(self) -> str:
        """A file of them, for `read`.

        Example:
            >>> templates = Templates("Be kind.", (Pair("Do [cap].", "Done [img]."),))
            >>> Templates.parse(templates.text.encode(), "again") == templates
            True
        """
        pairs = [f"Human: {pair.human}\nGPT: {pair.gpt}\n" for pair in self.pairs]
        return "\n".join([f"System: {self.system}\n", *pairs])

    def pair(self, seed: int, item_id: str) -> Pair:
        """The pair of an item: any with equal chance, by the seed and the item's id alone."""
        text = f"{seed}\n{item_id}".encode(errors="surrogatepass")
        number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
        return self.pairs[number % len(self.pairs)]

    def warn_if_own(self, model: str) -> None:
        """Warns that released weights, which `model` names, have not seen these words."""
        if self.own_words:
            warnings.warn(
                f"{model} was trained with the official system prompt and templates and runs with "
                "this project's words; give --templates, a file of the official pairs with a line "
                "'System: ...' that holds the official system prompt",
                stacklevel=2,
            )


def _parsed(path: str, lines: list[str]) -> tuple[str | None, tuple[Pair, ...]]:
    system: str | None = None
    humans: list[str] = []
    replies: list[str] = []
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        found = _LINE.fullmatch(line.strip())
        if not found:
            if not _FOR_READERS.fullmatch(line):
                raise DataError(f"{where}: {line.strip()[:60]!r} is no System, Human or GPT line")
            continue
        kind, text = found["kind"].lower(), found["text"]
        _check(where, kind, text)
        if kind == "system":
            if system is not None:
                raise DataError(f"{where}: a second system prompt; keep one")
            system = text
        elif (kind == "gpt") != (len(humans) > len(replies)):
            raise DataError(f"{where}: {kind} out of turn; each Human line needs one GPT line")
        else:
            (replies if kind == "gpt" else humans).append(text)
    if len(humans) > len(replies):
        raise DataError(f"{path}: the last Human line has no GPT line; add it")
    if not humans:
        raise DataError(f"{path} has no templates; each is a Human line and a GPT line")
    return system, tuple(map(Pair, humans, replies))


def _check(where: str, kind: str, text: str) -> None:
    token = _TOKEN.search(text)
    if token:
        raise DataError(f"{where}: {token[0]} is a token of the network; take it out")
    if kind == "human" and text.count(TEXT_PLACE) != 1:
        found = text.count(TEXT_PLACE) or "no"
        raise DataError(
            f"{where}: the Human line has {found} {TEXT_PLACE}, the instruction's place; have one"
        )
    if kind == "gpt" and not text.endswith(IMAGE_PLACE):
        raise DataError(f"{where}: the GPT line does not end in {IMAGE_PLACE!r}, the image's place")
