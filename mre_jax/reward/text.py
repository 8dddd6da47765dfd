"""The reward text a model reads, and what of it the text encoder's window cuts off."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from mre_jax.errors import ConfigError
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES

NO_FEEDBACK = "None"
SEPARATOR = "; "

CountTokens: TypeAlias = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text with the start and end token, before anything is cut off."""

Parts: TypeAlias = tuple[str, ...]
"""Of one reward: see `reward_parts`. Of an example without a reward there are none."""

CUTS = ("end", "share")
"""What is cut of a reward text that is too long: its end, as the released code does, so that the
last perspective is lost; or of every perspective what goes beyond its share."""

_BATCH = 256
_SPECIAL = 2


def reward_parts(
    texts: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    none_for_top: bool = True,
    perspectives: Sequence[str] = PERSPECTIVES,
) -> Parts:
    """The texts of the chosen perspectives as they enter the reward text.

    Args:
        texts: one for each of `PERSPECTIVES`.
        scores: likewise; None if they are not known.
        none_for_top: "None" stands for a text that is empty, says none, or goes with the top
            score. Annotators write sentences such as "There are no noticeable flaws." there,
            while the text of inference is "None; None; None".
        perspectives: perspectives that take part, for the ablation by perspective.

    Raises:
        ConfigError: if a perspective is unknown, or none is left.
    """
    unknown = [name for name in perspectives if name not in PERSPECTIVES]
    if unknown or not perspectives:
        raise ConfigError(
            f"perspectives {list(perspectives)}: want some of {', '.join(PERSPECTIVES)}"
        )
    parts = []
    for number, (name, text) in enumerate(zip(PERSPECTIVES, texts, strict=True)):
        if name in perspectives:
            top = scores is not None and scores[number] >= MAX_SCORE
            parts.append(NO_FEEDBACK if none_for_top and (top or _says_none(text)) else text)
    return tuple(parts)


def reward_text(
    texts: Sequence[str],
    scores: Sequence[float] | None = None,
    *,
    none_for_top: bool = True,
    perspectives: Sequence[str] = PERSPECTIVES,
) -> str:
    """The reward text as the released code joins it; see `reward_parts`.

    Example:
        >>> reward_text(["The hat is missing.", "The sky changed.", ""], [1, 5, 4])
        'The hat is missing.; None; None'
    """
    parts = reward_parts(texts, scores, none_for_top=none_for_top, perspectives=perspectives)
    return SEPARATOR.join(parts)


def asked_text(
    perspectives: Sequence[str] = PERSPECTIVES,
    scores: Sequence[float] | None = None,
    words: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The reward text that goes with the scores an edit asks for: "None; None; None" by default.

    Args:
        perspectives: perspectives that the checkpoint was trained with, and whose texts it knows.
        scores: one for each of `PERSPECTIVES`.
        words: by perspective, what is said of a score ("3", "4.5"); "None" of one without.

    Example:
        >>> asked_text(scores=(5, 5, 2), words={"quality": {"2": "The hat is blurred."}})
        'None; None; The hat is blurred.'
    """
    said = dict(zip(PERSPECTIVES, scores or (), strict=False))
    parts = [
        (words or {}).get(name, {}).get(f"{said[name]:g}") if name in said else None
        for name in perspectives
    ]
    return SEPARATOR.join(part or NO_FEEDBACK for part in parts)


class Window(Protocol):
    """A tokenizer, as far as texts are brought into its window.

    Attributes:
        length: tokens that fit, the start and end token included.
    """

    length: int

    def spans(self, texts: Sequence[str], /) -> Sequence[Sequence[tuple[int, int]]]:
        """Of each token of each text, its first character and the one behind its last."""
        ...


def join_rewards(rewards: Sequence[Parts], window: Window, cut: str = "end") -> list[str]:
    """The reward texts that are to be tokenized, which cuts off their ends.

    Args:
        rewards: the parts of each.
        window: tokens that the text encoder takes.
        cut: one of `CUTS`. By "share" a text that is too long is made of parts that fit: what a
            short one leaves of its share goes to the others, and words stay whole.
    """
    texts = [SEPARATOR.join(parts) for parts in rewards]
    if cut == "end":
        return texts
    lengths = [len(spans) + _SPECIAL for spans in window.spans(texts)]
    long = [number for number, length in enumerate(lengths) if length > window.length]
    spans = iter(window.spans([part for number in long for part in rewards[number]]))
    for number in long:
        own = [next(spans) for _ in rewards[number]]
        room = window.length - _SPECIAL - (len(own) - 1)  # a separator is a token
        shares = _shares([len(tokens) for tokens in own], room)
        texts[number] = SEPARATOR.join(map(_cut, rewards[number], own, shares))
    return texts


def _shares(lengths: Sequence[int], room: int) -> list[int]:
    """Splits the room evenly, but for what shorter ones leave to longer ones."""
    shares = [0] * len(lengths)
    waiting = sorted(range(len(lengths)), key=lengths.__getitem__)
    for done, number in enumerate(waiting):
        shares[number] = min(lengths[number], room // (len(waiting) - done))
        room -= shares[number]
    return shares


def _cut(text: str, spans: Sequence[tuple[int, int]], share: int) -> str:
    """The first `share` tokens of a text, or fewer so that no word is torn."""
    if len(spans) <= share:
        return text
    ends = [end for _, end in spans[:share]]
    whole = [end for end in ends if not text[end - 1 : end + 1].isalnum()]
    return text[: (whole or ends or [0])[-1]]


@dataclasses.dataclass(frozen=True)
class Truncation:
    """How much of the reward texts does not fit the text encoder.

    The texts are joined in order, so it is the last perspective that suffers.

    Attributes:
        limit: tokens that fit, the start and end token included.
        texts: reward texts that were measured.
        perspectives: perspectives of the parts.
        cut: per perspective, texts that lose some of its tokens.
        lost: per perspective, texts that lose all of them.
        longest: tokens of the longest reward text.
    """

    limit: int
    texts: int
    perspectives: tuple[str, ...]
    cut: tuple[int, ...]
    lost: tuple[int, ...]
    longest: int

    def __str__(self) -> str:
        share = 100 / max(self.texts, 1)
        parts = [
            f"{name} {cut * share:.1f} % cut, {lost * share:.1f} % lost"
            for name, cut, lost in zip(self.perspectives, self.cut, self.lost, strict=True)
        ]
        head = f"{self.texts} reward texts, {self.limit} tokens fit, the longest has {self.longest}"
        return f"{head}: {'; '.join(parts)}"


def measure_truncation(
    rewards: Iterable[Sequence[str]],
    count: CountTokens,
    *,
    limit: int = 77,
    perspectives: Sequence[str] = PERSPECTIVES,
) -> Truncation:
    """Counts, per perspective, the reward texts of which the encoder misses something.

    Args:
        rewards: the `reward_parts` of each reward, any number; read once, in batches.
        count: the tokenizer. For one of the transformers library:
            `lambda texts: [len(ids) for ids in tokenizer(list(texts))["input_ids"]]`.
        limit: tokens that fit, the start and end token included: 77 for CLIP.
        perspectives: the names of the parts.

    Example:
        >>> def count(texts):
        ...     return [2 + len(text.split()) for text in texts]
        >>> truncation = measure_truncation([("no hat", "None", "two of them")], count, limit=6)
        >>> truncation.cut, truncation.longest
        ((0, 0, 1), 8)
    """
    cut, lost = [0] * len(perspectives), [0] * len(perspectives)
    total = longest = 0
    rewards = iter(rewards)
    while batch := list(itertools.islice(rewards, _BATCH)):
        stretches = [stretch for parts in batch for stretch in _stretches(parts)]
        counts = iter(count(stretches))
        for parts in batch:
            total += 1
            for number in range(len(parts)):
                start, stop = next(counts), next(counts)
                missing = min(stop - limit, stop - start)
                cut[number] += missing > 0
                lost[number] += 0 < stop - start == missing
                longest = max(longest, stop)
    return Truncation(limit, total, tuple(perspectives), tuple(cut), tuple(lost), longest)


def _stretches(parts: Sequence[str]) -> list[str]:
    """For each part the reward text up to its begin and up to its end."""
    stretches = []
    begun = ""
    for part in parts:
        stretches += [begun, begun + part]
        begun += part + SEPARATOR
    return stretches


def _says_none(text: str) -> bool:
    return text.strip().rstrip(".").lower() in ("", "none")
