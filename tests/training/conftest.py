"""A small editor and a small prepared set on disk, made once."""

import warnings

import pytest

from tests.data.prepared import prepare_toy, write_toy
from tests.training.train_files import LAST, MIDDLE, Process, start_two, write_config
from tests.weights import tiny


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """The toy world of `shards`, as published sets come."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def shards(toy, tmp_path_factory):
    """24 examples with rewards; not to be written to."""
    pytest.importorskip("tensorflow_datasets")
    return prepare_toy(toy, tmp_path_factory.mktemp("prepared") / "shards")


@pytest.fixture(scope="session")
def editor(tmp_path_factory):
    """A plain editor whose UNet has one level, as diffusers saves it; not to be written to."""
    pytest.importorskip("torch")
    unet = tiny.make_unet(
        block_out_channels=[32],
        down_block_types=["CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tiny.write_pipeline(tmp_path_factory.mktemp("editor") / "model", unet)


@pytest.fixture(scope="session")
def long_config(editor, shards, tmp_path_factory):
    """A run of LAST steps that is saved every third and logged at each, at the paper's rate."""
    return write_config(
        tmp_path_factory.mktemp("long") / "config.yaml",
        editor,
        shards,
        steps=LAST,
        optimizer={"learning_rate": 5e-5},
        checkpoint={"every": 3, "keep": 2, "pinned": [MIDDLE]},
    )


@pytest.fixture(scope="session")
def whole(long_config, tmp_path_factory):
    """That run by one process without an interruption; not to be written to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = Process(long_config, run)
    assert process.wait() == 0, process.output()
    return run


@pytest.fixture(scope="session")
def whole_of_two(long_config, tmp_path_factory):
    """The same by two processes."""
    run = tmp_path_factory.mktemp("pair") / "run"
    processes = start_two(long_config, run)
    for process in processes:
        assert process.wait() == 0, process.output()
    return run
