"""The public reward checkpoint: its 720 tensors are ours under other names, and no more."""

import json
from pathlib import Path

import numpy as np
import pytest

from mre_jax.models.unet_config import UNetConfig
from mre_jax.reward.config import RewardConfig
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.model import Component
from mre_jax.weights.names.aliases import from_released, to_released
from mre_jax.weights.names.infer import reward_config
from mre_jax.weights.names.rule import expected_tensors
from tests.weights.names.test_rule import Given

PUBLIC = Path(__file__).parents[2] / "models" / "released_unet_tensors.json"


@pytest.fixture(scope="module")
def public():
    return {
        name: TensorInfo(tuple(shape), np.dtype(np.float32))
        for name, shape in json.loads(PUBLIC.read_text()).items()
    }


def test_every_name_goes_there_and_back(public):
    assert len(public) == 720
    ours = [from_released(name) for name in public]
    assert len(set(ours)) == 720
    assert [to_released(name) for name in ours] == list(public)
    assert sum(name.startswith("reward.") for name in ours) == 34


def test_the_condition_is_recognised_and_the_network_fits(public):
    reward = reward_config(public)
    assert reward == RewardConfig(form="released")
    config = {**UNetConfig().to_dict(), "reward": reward.to_dict()}
    expected = expected_tensors(Component("unet", config, b"", Given({})).network())
    ours = {from_released(name): info.shape for name, info in public.items()}
    assert {name: tuple(shape.shape) for name, shape in expected.items()} == ours


def test_a_plain_unet_has_no_reward(public):
    plain = {name: info for name, info in public.items() if from_released(name) == name}
    assert reward_config(plain) is None
    assert len(plain) == 686


@pytest.mark.parametrize(
    ("gone", "switched_off"),
    [
        (("text_linear", "text_linear2"), {"text"}),
        (("add_embedding", "add_embedding2"), {"score"}),
        (("add_embedding", "text_linear2"), {"addition"}),
        (("add_embedding2", "text_linear", "ca", "proj_deal"), {"attention"}),
    ],
)
def test_parts_that_are_missing_are_switched_off(public, gone, switched_off):
    left = {name: info for name, info in public.items() if name.split(".")[0] not in gone}
    reward = reward_config(left)
    off = {key for key in ("score", "text", "attention", "addition") if not getattr(reward, key)}
    assert off == switched_off


def test_only_whole_parts_of_a_name_are_replaced():
    assert to_released("reward.text_time.weight") == "text_linear2.weight"
    assert from_released("text_linear2.weight") == "reward.text_time.weight"
    assert from_released("text_linear22.weight") == "text_linear22.weight"
    assert from_released("down_blocks.0.add_embedding.weight") == (
        "down_blocks.0.add_embedding.weight"
    )
