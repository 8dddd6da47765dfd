"""A tiny editor of each kind, made once by PyTorch and loaded once."""

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from mre_jax.editing.pipeline import EditPipeline  # noqa: E402
from mre_jax.reward.config import RewardConfig  # noqa: E402
from tests.tiny_editor import make_tiny_editor  # noqa: E402

REWARD = RewardConfig(form="paper", score_width=8, num_attention_heads=4)


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plain")


@pytest.fixture(scope="session")
def plain_torch(plain_folder):
    return make_tiny_editor(plain_folder)


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reward")


@pytest.fixture(scope="session")
def reward_torch(reward_folder):
    return make_tiny_editor(reward_folder, reward=REWARD.to_dict())


@pytest.fixture(scope="session")
def plain_pipeline(plain_torch, plain_folder):
    return EditPipeline.from_pretrained(plain_folder)


@pytest.fixture(scope="session")
def reward_pipeline(reward_torch, reward_folder):
    return EditPipeline.from_pretrained(reward_folder)


@pytest.fixture(scope="session")
def photo():
    """A 24x16 picture of smooth noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    return Image.fromarray(pixels).resize((24, 16), Image.Resampling.BICUBIC)
