"""A toy world, its shards, and a stand-in for editor and trainer whose edits improve by plan."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mre_jax.data.prepare import PrepareSpec, prepare
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.program import Edited
from mre_jax.editing.settings import SamplingSettings
from mre_jax.improvement import stages
from mre_jax.improvement.spec import ImproveSpec
from mre_jax.judges.spec import JudgeSpec
from mre_jax.toyworld.dataset import Settings, write_dataset
from mre_jax.training.config import DataConfig, ModelConfig, TrainConfig
from tests.judges.conftest import server  # noqa: F401 (a fixture)

EXAMPLES, SIZE, SCENES = 8, 16, 2


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("improvement") / "toy"
    settings = Settings(EXAMPLES, size=SIZE, image_format="png", benchmark=SCENES)
    write_dataset(folder, settings, workers=1)
    return folder


@pytest.fixture(scope="session")
def shards(toy):
    pytest.importorskip("tensorflow_datasets")
    rewards = toy / "RewardEdit.json"
    spec = PrepareSpec("instruct_pix2pix", toy / "triplets", out=toy / "shards", rewards=rewards)
    return prepare(spec).folder


class NoisyEditor:
    """What sampling asks of a pipeline; an edit is its picture with noise, of a plan's strength.

    Its folder holds how many times it was trained.
    """

    device_count, takes_reward = 1, True

    def __init__(self, folder, plan):
        self.trained = int(Path(folder, "trained").read_text())
        self.noise = plan[min(self.trained, len(plan) - 1)]
        self.checkpoint = hashlib.sha256(f"{folder.name}{self.trained}".encode()).hexdigest()
        self.provenance = {"checkpoint": self.checkpoint}

    def to_devices(self):
        return self

    def check(self, requests, settings):
        pass

    def edit_batch(self, requests, pictures, settings, **options):
        edited = []
        for request, picture in zip(requests, pictures, strict=True):
            seed = hashlib.sha256(f"{request.id}/{request.seed}".encode()).digest()
            noise = np.random.default_rng(list(seed)).normal(size=(SIZE, SIZE, 3))
            edited.append(np.clip(np.asarray(picture) / 255 + self.noise * noise, 0, 1))
        return Edited(np.stack(edited), np.ones((len(edited), 4), bool))


class Stand:
    """Stands in for editor and trainer.

    Attributes:
        plan: noise of an editor, by how many times it was trained.
        trainings: configurations that were trained.
    """

    def __init__(self, monkeypatch):
        self.plan = [0.4, 0.2, 0.1, 0.05]
        self.trainings = []
        monkeypatch.setattr(
            ModelSpec, "load", lambda spec: NoisyEditor(Path(spec.model), self.plan)
        )
        monkeypatch.setattr(stages, "train", self.train)
        monkeypatch.setattr(stages, "export", self.export)

    def train(self, config, run):
        self.trainings.append(config)
        run.mkdir(parents=True, exist_ok=True)
        (run / "config.json").write_text(json.dumps(config.to_dict()))

        @dataclasses.dataclass
        class Run:
            path: Path

        return Run(run)

    def export(self, spec):
        before = json.loads((spec.run / "config.json").read_text())["model"]["init_from"]
        spec.out.mkdir()
        (spec.out / "trained").write_text(str(int(Path(before, "trained").read_text()) + 1))


@pytest.fixture
def stand(monkeypatch):
    return Stand(monkeypatch)


@pytest.fixture
def begun(tmp_path, monkeypatch, toy, shards):
    """Configuration and spec of a loop in a folder of its own, all paths of it relative."""
    monkeypatch.chdir(tmp_path)
    Path("editor").mkdir()
    Path("editor/trained").write_text("0")
    model = ModelConfig("editor", compute_dtype="float32")
    config = TrainConfig("loop", 2, model, DataConfig((str(shards),), batch_size=4, resolution=16))
    spec = ImproveSpec(
        held_out=toy / "benchmark",
        out="out",
        edits=2,
        sampling=SamplingSettings(num_inference_steps=1),
        size="keep",
        judge=JudgeSpec("toy"),
        scenes=toy / "triplets",
    )
    return config, spec
