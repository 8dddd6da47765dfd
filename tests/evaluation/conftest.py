"""A toy benchmark and a tiny editor that takes rewards."""

import pytest

from mre_jax.models.reward_config import RewardConfig
from mre_jax.toyworld.dataset import Settings, write_dataset

REWARD = RewardConfig(form="paper", score_width=8, num_attention_heads=4)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A toy world of 24 training examples and two held-out scenes, 16 pixels wide."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, Settings(24, size=16, image_format="png", benchmark=2), workers=1)
    return folder


@pytest.fixture(scope="session")
def editor(tmp_path_factory):
    """The folder of a tiny editor."""
    pytest.importorskip("torch")
    from mre_jax.pytorch.tiny_editor import make_tiny_editor

    folder = tmp_path_factory.mktemp("editor")
    make_tiny_editor(folder, reward=REWARD.to_dict())
    return folder
