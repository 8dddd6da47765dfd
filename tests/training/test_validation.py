"""Edits that a run makes of itself: the same pictures and noise each time, on a sheet."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mre_jax.editing.request import EditRequest
from mre_jax.errors import DataError
from mre_jax.training.config import load_config
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, make_mesh
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.start import load_start
from mre_jax.training.state import fresh_state
from mre_jax.training.validation import Validation, draw_sheet, pack, unpack
from tests.training.train_files import write_config

SIDE = 16


@pytest.fixture(scope="module")
def config(editor, shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    lines = []
    for number, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{number}.png")
        lines.append(json.dumps({"id": f"{number}", "image": f"{number}.png", "prompt": "abc"}))
    (folder / "items.jsonl").write_text("\n".join(lines))
    path = write_config(
        folder / "config.yaml",
        editor,
        shards,
        model={"reward": None},
        validation={"every": 2, "items": str(folder / "items.jsonl"), "steps": 2},
    )
    return load_config(path)


@pytest.fixture(scope="module")
def layout(config):
    return Layout.of(config.mesh, make_mesh(config.mesh))


@pytest.fixture(scope="module")
def start(config, layout):
    return load_start(config, layout, RequiredNetworks(edits=True))


def first_state(config, start, layout):
    """Of copies: a state uses up its parameters."""
    params = jax.tree.map(jnp.copy, start.params)
    return fresh_state(params, make_optimizer(config.optimizer, 6), layout, ema=True)


def validation(config, start, layout, folder):
    run = RunDirectory(folder)
    with run.opened(Identity(config, ("d",), "w")):
        pass
    return Validation(config, start, layout, run)


def test_a_sharded_state_edits_the_same_each_time(config, start, layout, tmp_path):
    """Twice from one state, with the average; its parameters are something else."""
    state = first_state(config, start, layout)
    state["params"] = jax.tree.map(lambda x: 0 * x, state["params"])
    validate = validation(config, start, layout, tmp_path)
    with jax.set_mesh(layout.mesh):
        sheet = validate(state, 2)
        validate(state, 4)
    first, second = (tmp_path / "validation" / f"{step:08d}.png" for step in (2, 4))
    assert first.read_bytes() == second.read_bytes()
    np.testing.assert_array_equal(np.asarray(Image.open(first)), sheet)
    assert len(np.unique(sheet)) > 50


def test_an_edit_that_is_not_finite_is_said_and_training_goes_on(config, start, layout, tmp_path):
    state = first_state(config, start, layout)
    state["ema"] = jax.tree.map(lambda x: x * np.float32(np.nan), state["ema"])
    validate = validation(config, start, layout, tmp_path)
    message = "after step 2: edit [01] is not finite from denoising step 1 of 2 on"
    with jax.set_mesh(layout.mesh), pytest.warns(UserWarning, match=message):
        validate(state, 2)


def test_the_place_of_an_edit_that_is_not_finite_is_not_black():
    picture = Image.new("RGB", (128, 128))
    request = EditRequest(prompt="x")
    made, failed = (
        (draw_sheet([request], [picture], [x]) == 0).all(-1).sum() / 128**2
        for x in (picture, DataError("not finite"))
    )
    assert 2 <= made < 2.1 and 1 <= failed < 1.1


def test_all_devices_edit_as_one_does(config, start, layout, tmp_path, monkeypatch):
    sheets = []
    for number, devices in enumerate((jax.devices(), jax.devices()[:1])):
        monkeypatch.setattr(jax, "local_devices", lambda devices=devices: devices)
        state = first_state(config, start, layout)
        validate = validation(config, start, layout, tmp_path / str(number))
        with jax.set_mesh(layout.mesh):
            sheets.append(validate(state, 2).astype(int))
    assert np.abs(sheets[0] - sheets[1]).max() <= 2
    assert len(np.unique(sheets[0])) > 50


def test_what_processes_edit_comes_back_in_order():
    """Dealt in turn: the last share is smaller, and one edit has failed."""
    pictures = [Image.new("RGB", (SIDE, SIDE), (value, 0, 0)) for value in range(5)]
    pictures[3] = DataError("not finite")
    shares = [pack(pictures[process::2], 3, SIDE) for process in range(2)]
    back = unpack(*(np.stack(part) for part in zip(*shares, strict=True)), 5)
    assert [x if isinstance(x, DataError) else x.getpixel((0, 0))[0] for x in back][:3] == [0, 1, 2]
    assert isinstance(back[3], DataError)
    assert back[4].getpixel((0, 0))[0] == 4


def test_a_list_that_cannot_be_edited_is_refused_at_the_start(config, start, layout, tmp_path):
    (tmp_path / "items.jsonl").write_text('{"id": "a", "image": "missing.png", "prompt": "x"}')
    other = replace(
        config, validation=replace(config.validation, items=str(tmp_path / "items.jsonl"))
    )
    with pytest.raises(DataError, match=r"missing\.png"):
        validation(other, start, layout, tmp_path / "run")


def test_the_sheet_shows_each_pair_under_its_instruction():
    red, blue = (Image.new("RGB", (128, 128), colour) for colour in ("red", "blue"))
    wide = Image.new("RGB", (256, 128), "lime")
    requests = [EditRequest(prompt="blue"), EditRequest(prompt="same")]
    sheet = draw_sheet(requests, [red, wide], [blue, wide])
    colours = {tuple(int(v) for v in pixel) for pixel in sheet.reshape(-1, 3)}
    assert {(255, 0, 0), (0, 0, 255), (0, 255, 0)} <= colours
    red_columns = np.where((sheet == (255, 0, 0)).all(-1).any(0))[0]
    blue_columns = np.where((sheet == (0, 0, 255)).all(-1).any(0))[0]
    assert red_columns.max() < blue_columns.min(), "the result stands beside the original"
