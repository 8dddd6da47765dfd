"""A run in a bucket: what is written there is whole, and read again as from a disk; so are sets."""

import json

import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.io import growing_file
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.config import load_config
from mre_jax.training.data import open_data
from mre_jax.training.run import directory as run_directory
from mre_jax.training.run import event_file
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.run.metrics_log import MetricsLog
from tests.data.batches.test_loader import same, triplets
from tests.data.shards import write_set
from tests.evaluation import buckets
from tests.training.attempts import exit_reason
from tests.training.run.test_directory import finish_checkpoint
from tests.training.tiny_run import BATCH, train_config

IDENTITY = Identity(train_config(), ("d" * 64,), "w" * 64)
URL = "gs://bucket/runs/r1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the bucket's run holds, on this machine."""
    buckets.mount(monkeypatch, "gs://bucket", tmp_path)
    monkeypatch.setattr(run_directory, "git_id", lambda: "0" * 40)
    return tmp_path / "runs" / "r1"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_explains_itself(folder):
    run = RunDirectory(URL)
    assert not run.exists()
    with run.opened(IDENTITY):
        run.event("first_step", step=1)
        run.event("save_begin", step=4)
        assert not (folder / "events.jsonl").exists(), "an object for every event"
        run.event("save_commit", step=4)
        assert [row["event"] for row in lines(folder / "events.jsonl")][-1] == "save_commit"
    assert RunDirectory(URL).identity() == IDENTITY
    assert load_config(f"{URL}/config.yaml") == IDENTITY.config
    assert load_config(folder / "config.yaml") == IDENTITY.config
    assert exit_reason(run.events()) == "done (exit code 0)"
    assert run.events() == lines(folder / "events.jsonl")
    assert (folder / "validation").is_dir() and (folder / "tensorboard").is_dir()
    left = {path.name for path in folder.iterdir()} - {"validation", "tensorboard"}
    assert left == {"run.json", "config.yaml", "events.jsonl"}, "nothing half-written"


def test_attempts_follow_each_other_and_another_run_is_refused(folder):
    for _ in range(2):
        with RunDirectory(URL).opened(IDENTITY):
            pass
    finish_checkpoint(RunDirectory(URL), 2)
    assert (folder / "checkpoints" / "2").is_dir()
    assert Checkpoints(f"{URL}/checkpoints", every=1, keep=1).committed() == [2]
    another = Identity(train_config(seed=1), IDENTITY.data, IDENTITY.init)
    with pytest.raises(ConfigError, match="seed was 0 and is 1"), RunDirectory(URL).opened(another):
        pass
    assert [attempt["attempt"] for attempt in RunDirectory(URL).attempts()] == [1, 2]
    assert [row["attempt"] for row in RunDirectory(URL).events()] == [1, 1, 2, 2]


def test_checkpoints_that_are_gone_are_missed(folder):
    with RunDirectory(URL).opened(IDENTITY) as run:
        run.event("save_commit", step=4)
    with pytest.raises(DataError, match="step 4"), RunDirectory(URL).opened(IDENTITY):
        pass


def test_metrics_go_on_after_the_step_that_was_restored(folder, monkeypatch):
    clock = [0.0]
    for module in (event_file, growing_file):
        monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    path, tensorboard = f"{URL}/metrics.jsonl", f"{URL}/tensorboard"
    first = MetricsLog(path, tensorboard=tensorboard)
    for step in range(1, 5):
        first.write(step, {"loss": 1.0 / step})
    assert not (folder / "metrics.jsonl").exists(), "an object for every row"
    clock[0] = 100.0
    first.write(5, {"loss": 0.2})
    assert [row["step"] for row in lines(folder / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    # The first process is killed; the second goes on after step 3.
    second = MetricsLog(path, tensorboard=tensorboard, start=3)
    second.write(4, {"loss": np.float32(np.nan)})
    second.close()
    rows = [(row["step"], row["loss"]) for row in lines(folder / "metrics.jsonl")]
    assert rows == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, None)]
    files = list((folder / "tensorboard").iterdir())
    assert files and all(path.stat().st_size for path in files)


def test_examples_are_read_where_they_are_unless_a_copy_is_asked_for(tmp_path, monkeypatch):
    write_set(tmp_path / "set", triplets(BATCH))
    served = buckets.serve(monkeypatch, "gs://bucket", tmp_path)
    copies = tmp_path / "copies"
    monkeypatch.setenv("MRE_DATA_CACHE", str(copies))
    settings = {"data__resolution": 16, "data__paths": ["gs://bucket/set"]}
    local = open_data(train_config(**settings | {"data__paths": [str(tmp_path / "set")]}))
    want = local.training.batch(0)
    for requests in (None, 0):
        served.parts.clear()
        chosen = {} if requests is None else {"data__requests": requests}
        same(open_data(train_config(**settings, **chosen)).training.batch(0), want)
        assert (len(served.parts) >= BATCH, copies.exists()) == (requests is None, requests == 0)
