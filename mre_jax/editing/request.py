"""One edit that somebody asks for, checked when it is made."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mre_jax.errors import ConfigError, DataError
from mre_jax.reward.scores import WORST, check_scores

_LARGEST = 3.4e38  # that float32 holds
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditConditions:
    """What edits are made under, whatever the instruction.

    Attributes:
        seed: integer from 0 to 2**32 - 1 that decides the noise, together with an edit's id.
        negative_prompt: what the branches without instruction read.
        guidance_scale: how strongly the instruction is followed, 1 or more; 1 is no guidance.
        image_guidance_scale: how closely the original is kept, 1 or more.
        reward_scores: following, preserving and quality to ask for, each 0 to 5; the best by
            default, of a checkpoint that takes rewards.
        reward_text: what went wrong in each perspective, joined by "; "; by default that nothing
            did.
        reward_guidance_scale: how strongly the reward is preferred to the low one, 1 or more; 1 is
            off and costs nothing.
        low_reward_scores: scores that reward guidance moves away from; None, on a command line
            "none", moves away from no reward, which the checkpoint has to have been trained to
            edit by (`loss.reward_dropout`).
        low_reward_text: text of the low reward; the reward's own by default.

    Example:
        >>> conditions = EditConditions(seed=3, image_guidance_scale=1.8)
        >>> conditions.request("make it snow", seed=4).image_guidance_scale
        1.8
    """

    seed: int = 0
    negative_prompt: str = ""
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    reward_scores: tuple[float, ...] | None = dataclasses.field(
        default=None, metadata={"flag": "--reward", "metavar": "F,P,Q"}
    )
    reward_text: str | None = None
    reward_guidance_scale: float = 1.0
    low_reward_scores: tuple[float, ...] | None = dataclasses.field(
        default=WORST, metadata={"flag": "--low-reward", "metavar": "F,P,Q"}
    )
    low_reward_text: str | None = None

    def __post_init__(self) -> None:
        for name in ("negative_prompt", "reward_text", "low_reward_text"):
            value = getattr(self, name)
            if value is not None or name == "negative_prompt":
                _check_text(name, value)
        object.__setattr__(self, "seed", as_python(self.seed))
        for name in ("guidance_scale", "image_guidance_scale", "reward_guidance_scale"):
            value = as_python(getattr(self, name))
            object.__setattr__(self, name, value)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"{name} {value!r} is not a number")
            if abs(value) > _LARGEST:
                raise ConfigError(f"{name} {value} is too large")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigError(f"seed {self.seed!r} is not an integer")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed {self.seed} is not in 0 to {2**32 - 1}")
        if self.reward_scores is not None:
            object.__setattr__(self, "reward_scores", asked_scores(self.reward_scores))
        if self.low_reward_scores is not None:
            low = asked_scores(self.low_reward_scores, "low_reward_scores")
            object.__setattr__(self, "low_reward_scores", low)

    def request(self, prompt: str, id: str = "", **changes: Any) -> "EditRequest":
        """An edit under these conditions.

        Args:
            prompt, id: see `EditRequest`.
            changes: conditions of this edit alone.
        """
        own = {field.name: getattr(self, field.name) for field in _CONDITIONS}
        return EditRequest(**{**own, **changes, "prompt": prompt, "id": id})


_CONDITIONS = dataclasses.fields(EditConditions)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditRequest(EditConditions):
    """What to do to a picture, and under which conditions; the picture stands beside it.

    Attributes:
        prompt: the instruction, "make it snow".
        id: name of the edit; with `seed` it decides the noise. May be empty.

    Example:
        >>> EditRequest(prompt="make it snow", reward_scores=(5, 4, 5)).reward_scores
        (5.0, 4.0, 5.0)
        >>> EditRequest(prompt="make it snow", seed=-1)
        Traceback (most recent call last):
        mre_jax.errors.ConfigError: seed -1 is not in 0 to 4294967295
    """

    prompt: str
    id: str = ""

    def __post_init__(self) -> None:
        _check_text("prompt", self.prompt)
        super().__post_init__()
        if not self.prompt.strip():
            raise ConfigError("the prompt is empty; say what to change")
        if self.id and not _SAFE_ID.fullmatch(self.id):
            raise DataError(
                f"id {self.id!r}: want 1 to 100 letters, digits, '.', '_' or '-', "
                "starting with a letter or digit"
            )


def spread(**fields: Any) -> list[dict[str, Any]]:
    """One set of fields per edit, from fields that each hold one value for all or a list of them.

    Raises:
        ConfigError: if a list is empty, or two of more than one value differ in length.
    """
    lists = {name: _as_list(name, value) for name, value in fields.items()}
    count, longest = max((len(values), name) for name, values in lists.items())
    for name, values in lists.items():
        if not values:
            raise ConfigError(f"{name} is an empty list")
        if len(values) not in (1, count):
            raise ConfigError(f"{name} has {len(values)} values and {longest} {count}")
    return [
        {name: values[index if len(values) > 1 else 0] for name, values in lists.items()}
        for index in range(count)
    ]


def as_python(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, which rows of JSON can hold; all else as it is."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def asked_scores(scores: Any, name: str = "reward_scores") -> tuple[float, ...]:
    """The scores that an edit asks for, as floats.

    Raises:
        ConfigError: unless they are finite numbers from 0 to 5, one a perspective.
    """
    scores = as_python(scores)
    if isinstance(scores, list | tuple):
        scores = tuple(as_python(score) for score in scores)
    return tuple(map(float, check_scores(scores, name, ConfigError)))


def _as_list(name: str, value: Any) -> list[Any]:
    value = as_python(value)
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value]
    is_one_reward = name.endswith("_scores") and not any(
        isinstance(part, Sequence | np.ndarray) for part in value
    )
    return [value] if is_one_reward else list(value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ConfigError(f"{name} {value!r} is not a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"{name} {value!r} holds half a character (a lone surrogate)")
