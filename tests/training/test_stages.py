"""SmartEdit's stages from a file of settings to a model folder, on a small SmartEdit."""

import shutil
import warnings

import numpy as np
import pytest
import yaml

from mre_jax import cli
from mre_jax.io.growing_file import rows_so_far
from mre_jax.training.checkpoints.reading import restore_params
from mre_jax.weights.opening import model_at
from tests.smartedit.tiny_tokenizer import tiny_tokenizer
from tests.tiny_smartedit import IMAGE_TOKENS, TEMPLATES, tiny_smartedit
from tests.training.train_files import train

pytestmark = pytest.mark.slow

PARTS = ["unet", "qformer", "bim", "adapters", "new_tokens"]
FIRST = tiny_tokenizer(IMAGE_TOKENS).base_size
VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")


def write(folder, init_from, paths, **changes):
    """A configuration of 3 steps, of which each is saved."""
    values = {
        "name": "stage",
        "steps": 3,
        "model": {
            "init_from": str(init_from),
            "compute_dtype": "float32",
            "ema_decay": 0.9,
            "trained": PARTS,
        },
        "data": {"paths": list(map(str, paths)), "batch_size": 8, "threads": 1, "flip": 0},
        "loss": {"objective": "replies_and_edits", "dropout": 0.2},
        "optimizer": {"learning_rate": 1e-3, "weight_decay": 0.1},
        "checkpoint": {"every": 1, "keep": 9},
        "log": {"every": 1, "tensorboard": False},
    }
    values["data"]["resolution"] = 16
    for name, change in changes.items():
        values[name] = {**values.get(name, {}), **change}
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A copy, which a test may take away."""
    return shutil.copytree(tiny_smartedit(), tmp_path_factory.mktemp("start") / "model")


@pytest.fixture(scope="module")
def config(model, shards, tmp_path_factory):
    return write(tmp_path_factory.mktemp("config"), model, [shards])


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run of stage 2b without an interruption."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(config, run) == 0
    return run


def exported(run, folder):
    assert cli.main(["export", str(run), "--out", str(folder)]) == 0
    return tensors(folder)


def tensors(folder):
    """Every tensor of a model, by component."""
    with model_at(folder) as model:
        return {
            name: {key: part.source.read(key) for key in part.source.tensors}
            for name, part in model.components.items()
        }


def test_both_losses_are_logged(whole):
    rows = rows_so_far(whole / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["loss"] == pytest.approx(row["diffusion_loss"] + row["language_loss"], rel=1e-6)


def test_a_resumed_run_is_bit_equal(config, whole, tmp_path):
    run = tmp_path / "run"
    assert train(config, run, "steps=2") == 0
    assert train(config, run) == 0
    for which in ("params", "ema"):
        one, two = (restore_params(r / "checkpoints", 3, which).state for r in (whole, run))
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)


def test_what_is_not_trained_keeps_its_bits_and_all_else_moves(model, whole, tmp_path):
    before, after = tensors(model), exported(whole, tmp_path / "model")
    assert before.keys() == after.keys()
    for component, stored in before.items():
        for name, array in stored.items():
            new = after[component][name]
            assert new.dtype == array.dtype or component in PARTS, name
            if component == "llm" and name in VOCABULARY:
                assert np.array_equal(new[:FIRST], array[:FIRST]), name
                assert not np.array_equal(new[FIRST:], array[FIRST:]), name
            elif is_trained(component, name):
                assert not np.array_equal(new, array), name
            else:
                assert new.tobytes() == array.tobytes(), name


def is_trained(component, name):
    if component == "bim" and "gaussian" in name:
        return False
    # A key's bias cancels in a softmax: only decay moves it, and then it does.
    return component in PARTS or (component == "llm" and ".lora_" in name)


def test_the_state_holds_what_is_trained_and_no_more(whole):
    state = restore_params(whole / "checkpoints", 3).state
    assert {name.partition(".")[0] for name in state} == {"unet", "qformer", "bim", "llm"}
    llm = {name for name in state if name.startswith("llm.")}
    rows = {name for name in llm if name.endswith(".new_rows")}
    assert len(rows) == 2 and all(".lora_" in name for name in llm - rows)
    assert all(len(state[name]) == IMAGE_TOKENS + 3 for name in rows)


def test_weights_that_are_gone_or_others_end_a_resume_in_a_line(
    config, model, whole, tmp_path, capsys
):
    run = shutil.copytree(whole, tmp_path / "run")
    away = model.with_name("away")
    model.rename(away)
    try:
        assert train(config, run, "steps=4") != 0
        assert "keeps no copy of what it does not train" in capsys.readouterr().err
        other = shutil.copytree(away, model)
        (shard,) = (other / "projector").glob("*.safetensors")
        data = bytearray(shard.read_bytes())
        data[-3] ^= 1
        shard.write_bytes(data)
        assert train(config, run, "steps=4") != 0
        assert "holds other weights than when this run began" in capsys.readouterr().err
    finally:
        shutil.rmtree(model, ignore_errors=True)
        away.rename(model)


def test_stage_1_reads_captions_and_is_stage_2s_start(model, shards, tmp_path):
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(f"a picture of {number} red cars" for number in range(40)))
    templates = tmp_path / "templates.txt"
    templates.write_text(TEMPLATES)
    config = write(
        tmp_path,
        model,
        [captions],
        model={"trained": ["qformer", "new_tokens"], "ema_decay": None},
        data={"templates": str(templates)},
        loss={"objective": "captions"},
    )
    run = tmp_path / "run"
    assert train(config, run) == 0
    rows = rows_so_far(run / "metrics.jsonl")
    assert rows[-1]["alignment_loss"] < rows[0]["alignment_loss"]
    before, after = tensors(model), exported(run, tmp_path / "model")
    moved = {
        component
        for component, stored in before.items()
        for name, array in stored.items()
        if not np.array_equal(array, after[component][name])
    }
    assert moved == {"llm", "qformer"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(write(tmp_path, tmp_path / "model", [shards]), tmp_path / "next") == 0


def test_stage_1_also_learns_instructions_beside_their_pictures(model, shards, tmp_path):
    config = write(
        tmp_path,
        model,
        [shards],
        model={"trained": ["llm", "qformer", "vision"], "ema_decay": None},
        loss={"objective": "instructions"},
    )
    run = tmp_path / "run"
    assert train(config, run, "steps=2") == 0
    assert train(config, run) == 0  # what it goes on from has the frozen projector alone
    rows = rows_so_far(run / "metrics.jsonl")
    assert rows[-1]["alignment_loss"] < rows[0]["alignment_loss"]
    before, after = tensors(model), exported(run, tmp_path / "model")
    moved = {
        component
        for component, stored in before.items()
        for name, array in stored.items()
        if not np.array_equal(array, after[component][name])
    }
    assert moved == {"llm", "qformer", "vision"}
