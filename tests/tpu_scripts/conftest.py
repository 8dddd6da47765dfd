"""The run that is rehearsed, and the same one undisturbed."""

import pytest

from tests.training.conftest import editor, shards, toy
from tests.training.train_files import start_two, write_config

__all__ = ["editor", "shards", "toy"]
STEPS = 32


@pytest.fixture(scope="session")
def config(editor, shards, tmp_path_factory):
    """A run of STEPS steps that is saved every fourth and logged at each."""
    return write_config(
        tmp_path_factory.mktemp("rehearsed") / "config.yaml",
        editor,
        shards,
        steps=STEPS,
        checkpoint={"every": 4, "keep": 2},
    )


@pytest.fixture(scope="session")
def undisturbed(config, tmp_path_factory):
    """That run by two processes; not to be written to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    processes = start_two(config, run)
    for process in processes:
        assert process.wait() == 0, process.output()
    return run
