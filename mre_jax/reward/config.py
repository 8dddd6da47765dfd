"""What the reward condition is: its form, its parts, and the names of the released weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mre_jax.errors import ConfigError
from mre_jax.reward.scores import PERSPECTIVES

FORMS = ("paper", "released")
"""Each has its class in `mre_jax.models.reward.FORMS`."""

# Our module paths under a UNet -> the paths of the public checkpoint of the released form, by
# prefix; the leaves below them follow the common rule.
RELEASED_NAMES = {
    "reward.score_time": "add_embedding",
    "reward.text_time": "text_linear2",
    "reward.score_token": "add_embedding2",
    "reward.text_token": "text_linear",
    "reward.encoder.norm": "proj_deal.norm",
    "reward.encoder.proj_in": "proj_deal.proj_in",
    "reward.encoder.proj_out": "proj_deal.proj_out",
    "reward.encoder.attention.query": "ca.attention.self.query",
    "reward.encoder.attention.key": "ca.attention.self.key",
    "reward.encoder.attention.value": "ca.attention.self.value",
    "reward.encoder.attention.dense": "ca.attention.output.dense",
    "reward.encoder.attention.norm": "ca.attention.output.LayerNorm",
    "reward.encoder.mlp.linear_1": "ca.hidden_intermediate.dense",
    "reward.encoder.mlp.linear_2": "ca.output.dense",
    "reward.encoder.mlp.norm": "ca.output.LayerNorm",
}


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """The reward condition of a UNet (the paper, sections 4.2 and 4.3).

    Attributes:
        form: "paper" (Eq. 2, 3, 5, 6) or "released", as the public checkpoint has it: there the
            condition is added to the time embedding, and it is two tokens without types.
        score: the scores are part of the condition.
        text: the reward text is part of it.
        attention: the noise attends to the condition in the reward encoder (Eq. 2).
        addition: the condition is added after every block (Eq. 3), or to the time embedding.
        perspectives: perspectives whose scores count; the others' encodings are zeroed.
        score_width: width of one score's position encoding.
        num_attention_heads: heads of the reward encoder; divides the UNet's first width.

    Raises:
        ConfigError: if a form or perspective is unknown, or no perspective is named.

    Example:
        >>> RewardConfig(text=False).to_dict()["form"]
        'paper'
        >>> RewardConfig(form="papre")
        Traceback (most recent call last):
        mre_jax.errors.ConfigError: reward.form 'papre' is unknown; use one of paper, released
    """

    form: str = "paper"
    score: bool = True
    text: bool = True
    attention: bool = True
    addition: bool = True
    perspectives: tuple[str, ...] = PERSPECTIVES
    score_width: int = 256
    num_attention_heads: int = 8

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(
                f"reward.form {self.form!r} is unknown; use one of {', '.join(FORMS)}"
            )
        unknown = [name for name in self.perspectives if name not in PERSPECTIVES]
        if unknown or not self.perspectives:
            raise ConfigError(
                f"reward.perspectives {list(self.perspectives)} must name one or more of "
                f"{', '.join(PERSPECTIVES)}; to leave the scores out set reward.score to false"
            )

    @property
    def enabled(self) -> bool:
        """False when nothing is left of the condition: the UNet is then InstructPix2Pix."""
        return (self.score or self.text) and (self.attention or self.addition)

    @classmethod
    def from_dict(cls, mapping: Mapping[str, Any]) -> "RewardConfig":
        """Reads the `reward` value of a config.json.

        Raises:
            ConfigError: for an unknown key or value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(mapping.keys() - known)
        if unknown:
            raise ConfigError(
                f"reward.{unknown[0]} is no setting of the reward condition; "
                f"there are {', '.join(sorted(known))}"
            )
        values = dict(mapping)
        if "perspectives" in values:
            values["perspectives"] = tuple(values["perspectives"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The same as `from_dict` takes, for JSON."""
        return {**dataclasses.asdict(self), "perspectives": list(self.perspectives)}
