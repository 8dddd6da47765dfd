"""The names of the public reward checkpoint.

Its configuration says nothing of the reward, so the parts that are there are recognised by the
names of their tensors.
"""

import dataclasses
from collections.abc import Mapping

from mre_jax.reward.config import RELEASED_NAMES, RewardConfig
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.weights.files.source import TensorInfo


def to_released(name: str) -> str:
    """The public checkpoint's name of a tensor of our UNet in the released form."""
    return _replaced(name, RELEASED_NAMES)


def from_released(name: str) -> str:
    """Our name of a tensor of the public checkpoint: the inverse of `to_released`."""
    return _replaced(name, _OUR_NAMES)


def find_reward(tensors: Mapping[str, TensorInfo]) -> RewardConfig | None:
    """The reward condition that the tensors of a UNet under released names belong to.

    Returns:
        None when there are no such tensors.
    """
    ours = {from_released(name): info for name, info in tensors.items()}
    parts = {name.split(".")[1] for name in ours if name not in tensors}
    if not parts:
        return None
    score_inputs = [
        info.shape[1]
        for name, info in ours.items()
        if name.endswith((".score_time.linear_1.weight", ".score_token.linear_1.weight"))
        and len(info.shape) == 2
    ]
    reward = RewardConfig(
        form="released",
        score=not parts.isdisjoint(("score_time", "score_token")),
        text=not parts.isdisjoint(("text_time", "text_token")),
        attention="encoder" in parts,
        addition=not parts.isdisjoint(("score_time", "text_time")),
    )
    if not score_inputs:
        return reward
    return dataclasses.replace(reward, score_width=score_inputs[0] // len(PERSPECTIVES))


def _replaced(name: str, table: Mapping[str, str]) -> str:
    for prefix, replacement in table.items():
        if name.startswith(f"{prefix}."):
            return replacement + name[len(prefix) :]
    return name


_OUR_NAMES = {released: ours for ours, released in RELEASED_NAMES.items()}
