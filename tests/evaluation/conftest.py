"""A toy benchmark and a tiny editor that takes rewards."""

import shutil

import pytest
from PIL import Image

from mre_jax.evaluation.results import append_results
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.reward.config import RewardConfig
from mre_jax.toyworld.dataset import Settings, write_dataset
from tests.evaluation.rows import make_row

REWARD = RewardConfig(form="paper", score_width=8, num_attention_heads=4)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A toy world of 24 training examples and two held-out scenes, 16 pixels wide."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, Settings(24, size=16, image_format="png", benchmark=2), workers=1)
    return folder


@pytest.fixture(scope="session")
def edited(toy, tmp_path_factory):
    """Results of three systems: two leave everything as it is, one makes all of it grey."""
    out = tmp_path_factory.mktemp("edited")
    cases = read_real_edit(toy / "benchmark")
    for name in ("kept", "twin", "grey"):
        (out / name).mkdir()
        for case in cases:
            path = out / name / f"{case.id}.png"
            shutil.copy(case.original, path)
            if name == "grey":
                Image.new("RGB", (16, 16), (90, 90, 90)).save(path)
            row = make_row(
                system=name,
                item=case.id,
                group=case.group,
                kind=case.kind,
                instruction=case.instruction,
                original=str(case.original),
                edited=f"{name}/{case.id}.png",
            )
            append_results(out / "results.jsonl", [row])
    return out


@pytest.fixture(scope="session")
def editor(tmp_path_factory):
    """The folder of a tiny editor."""
    pytest.importorskip("torch")
    from tests.tiny_editor import make_tiny_editor

    folder = tmp_path_factory.mktemp("editor")
    make_tiny_editor(folder, reward=REWARD.to_dict())
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """The folder of a tiny CLIP."""
    pytest.importorskip("torch")
    from tests.evaluation.tiny_networks import write_clip

    folder = tmp_path_factory.mktemp("networks") / "clip"
    write_clip(folder)
    return folder


@pytest.fixture(scope="session")
def dino(tmp_path_factory):
    """The file of a tiny DINO."""
    torch = pytest.importorskip("torch")
    from tests.evaluation.tiny_networks import DINO, make_dino, released_dino

    path = tmp_path_factory.mktemp("networks") / "dino.pth"
    torch.save(released_dino(make_dino(**DINO)), path)
    return path


@pytest.fixture(scope="session")
def inception(tmp_path_factory):
    """The file of a narrow Inception."""
    torch = pytest.importorskip("torch")
    from tests.evaluation.metrics.inception_reference import random_inception

    path = tmp_path_factory.mktemp("networks") / "inception.pth"
    torch.save(random_inception(width=4).state_dict(), path)
    return path
