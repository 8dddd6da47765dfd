"""Rewards of edits, in the public form of the RewardEdit data set.

    {"0000123": [{"Score": 4, "Negative Prompt": "The sky is ..."}, {...}, {...}], ...}

A key names a triplet; its entries judge instruction following, detail preserving and
generation quality, in this order.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from etils import epath

from mre_jax.errors import DataError
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import read_json
from mre_jax.reward.scores import PERSPECTIVES, Scores, check_scores, one_each

Texts: TypeAlias = tuple[str, ...]

_SCORE, _TEXT = "Score", "Negative Prompt"


@dataclasses.dataclass(frozen=True)
class Reward:
    """What an annotator says of one edit.

    Attributes:
        scores: numbers from 0 to 5 in the order of `PERSPECTIVES`; integers stay integers.
        texts: what is wrong in each perspective.
    """

    scores: Scores
    texts: Texts


def read_rewards(path: epath.PathLike) -> dict[str, Reward]:
    """Reads a file such as `RewardEdit_20K.json`, keys in its order.

    Raises:
        DataError: naming key and perspective of what is not of the public form, or if a key
            stands twice or there is none.
    """
    path = epath.Path(path)
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise DataError(f"{path}: want an object of rewards by key, got {type(entries).__name__}")
    if not entries:
        raise DataError(f"{path}: no rewards in it")
    return {key: _parse(entry, f"{path}: key {key!r}") for key, entry in entries.items()}


def write_rewards(path: epath.PathLike, rewards: Mapping[str, Reward]) -> None:
    """Writes rewards as `read_rewards` reads them, whole or not at all.

    Raises:
        DataError: if a reward could not be read back.

    Example:
        >>> reward = Reward((5, 4, 5), ("None", "The sky is darker.", "None"))
        >>> write_rewards("rewards.json", {"7": reward})
        >>> read_rewards("rewards.json") == {"7": reward}
        True
    """
    entries = {}
    for key, reward in rewards.items():
        scores = check_scores(reward.scores, f"{path}: key {key!r}")
        texts = check_texts(reward.texts, f"{path}: key {key!r}")
        entries[key] = [{_SCORE: s, _TEXT: t} for s, t in zip(scores, texts, strict=True)]
    write_atomically(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def check_texts(texts: Any, where: str) -> Texts:
    """The texts as a tuple.

    Raises:
        DataError: unless they are texts, one for each of `PERSPECTIVES`; names the perspective.
    """
    for name, text in zip(PERSPECTIVES, one_each(texts, "texts", where), strict=True):
        if not isinstance(text, str):
            raise DataError(f"{where}: {name}: {text!r} is not a text")
    return tuple(texts)


def _parse(entry: Any, where: str) -> Reward:
    for name, judgement in zip(PERSPECTIVES, one_each(entry, "judgements", where), strict=True):
        for field in (_SCORE, _TEXT):
            if not isinstance(judgement, dict) or field not in judgement:
                raise DataError(f"{where}: {name}: no {field!r} in it")
    scores = check_scores([judgement[_SCORE] for judgement in entry], where)
    return Reward(scores, check_texts([judgement[_TEXT] for judgement in entry], where))
