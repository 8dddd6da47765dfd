"""Rewards of edits, in the public form of the RewardEdit data set.

    {"0000123": [{"Score": 4, "Negative Prompt": "The sky is ..."}, {...}, {...}], ...}

A key names a triplet; its three entries judge instruction following, detail preserving and
generation quality, in this order.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from etils import epath

from mre_jax.errors import DataError
from mre_jax.files import write_atomically

PERSPECTIVES = ("following", "preserving", "quality")
MAX_SCORE = 5

Scores: TypeAlias = tuple[float, float, float]
Texts: TypeAlias = tuple[str, str, str]

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
    """
    entries = {}
    for key, reward in rewards.items():
        scores = check_scores(reward.scores, f"{path}: key {key!r}")
        texts = check_texts(reward.texts, f"{path}: key {key!r}")
        entries[key] = [{_SCORE: s, _TEXT: t} for s, t in zip(scores, texts, strict=True)]
    write_atomically(path, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def check_scores(scores: Any, where: str) -> Scores:
    """The scores as a tuple.

    Raises:
        DataError: unless they are three numbers from 0 to 5; names the perspective.
    """
    following, preserving, quality = _three(scores, "scores", where)
    for name, score in zip(PERSPECTIVES, (following, preserving, quality), strict=True):
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise DataError(f"{where}: {name}: score {score!r} is not a number")
        if not math.isfinite(score) or not 0 <= score <= MAX_SCORE:
            raise DataError(f"{where}: {name}: score {score} is not in 0 to {MAX_SCORE}")
    return following, preserving, quality


def check_texts(texts: Any, where: str) -> Texts:
    """The texts as a tuple.

    Raises:
        DataError: unless they are three texts; names the perspective.
    """
    following, preserving, quality = _three(texts, "texts", where)
    for name, text in zip(PERSPECTIVES, (following, preserving, quality), strict=True):
        if not isinstance(text, str):
            raise DataError(f"{where}: {name}: {text!r} is not a text")
    return following, preserving, quality


def read_json(path: epath.Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: if it is missing, not JSON, or repeats a key of an object.
    """
    try:
        return parse_json(path.read_bytes(), path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a folder, where a JSON file is wanted") from None


def parse_json(data: bytes, where: object) -> Any:
    """`read_json` for bytes at hand; `where` is what errors call them."""
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except _RepeatedKeyError as error:
        raise DataError(f"{where}: key {error.args[0]!r} stands in it twice") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from None


class _RepeatedKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedKeyError(key)
        found[key] = value
    return found


def _parse(entry: Any, where: str) -> Reward:
    for name, judgement in zip(PERSPECTIVES, _three(entry, "judgements", where), strict=True):
        for field in (_SCORE, _TEXT):
            if not isinstance(judgement, dict) or field not in judgement:
                raise DataError(f"{where}: {name}: no {field!r} in it")
    scores = check_scores([judgement[_SCORE] for judgement in entry], where)
    return Reward(scores, check_texts([judgement[_TEXT] for judgement in entry], where))


def _three(values: Any, what: str, where: str) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 3:
        raise DataError(f"{where}: {what} {values!r:.60}: want three ({', '.join(PERSPECTIVES)})")
    return values
