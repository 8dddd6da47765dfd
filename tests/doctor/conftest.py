"""A healthy machine, and a run of the toy world that it is ready for."""

import dataclasses
import datetime
import email.utils

import pytest

from mre_jax.doctor.machine import Answer, Machine
from mre_jax.toyworld import EDITOR
from mre_jax.training.config import load_config
from tests.data.prepared import prepare_toy, write_toy

NOW = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC).timestamp()


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """Not to be written to."""
    pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("doctor")
    return prepare_toy(write_toy(folder / "toy"), folder / "shards")


@dataclasses.dataclass
class World:
    """What a machine is made to show: change it, and ask for the machine."""

    root: object
    environment: dict
    clock: float = NOW
    free: int = 10**12
    status: int = 200
    programs: dict = dataclasses.field(default_factory=dict)
    asked: list = dataclasses.field(default_factory=list)

    def get(self, url, headers):
        self.asked.append(url)
        if self.status == 0:
            raise OSError("no route to host")
        if "metadata" in url:
            date = email.utils.formatdate(NOW, usegmt=True)
            return Answer(200, "projects/1/zones/us-west4-a", date)
        return Answer(self.status)

    def run(self, command):
        said = next(
            (text for words, text in self.programs.items() if words in " ".join(command)), None
        )
        self.asked.append(" ".join(command))
        return said

    def with_chips(self, count=4):
        (self.root / "dev").mkdir(exist_ok=True)
        for number in range(count):
            (self.root / "dev" / f"accel{number}").touch()

    @property
    def machine(self):
        return Machine(
            root=self.root,
            environment=self.environment,
            pid=1,
            now=lambda: self.clock,
            free=lambda path: self.free,
            which=lambda name: name if self.programs else None,
            run=self.run,
            get=self.get,
        )


@pytest.fixture
def world(tmp_path):
    root = tmp_path / "root"
    for folder in ("proc", "tmp", "home"):
        (root / folder).mkdir(parents=True)
    return World(root, {"HOME": str(root / "home")})


@pytest.fixture
def config_file(shards, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: toy\nsteps: 2\nmodel: {{init_from: {EDITOR}, in_channels: 48}}\n"
        f"data: {{paths: [{shards}], batch_size: 8, resolution: 16}}\n"
    )
    return path


@pytest.fixture
def config(config_file):
    return load_config(config_file)
