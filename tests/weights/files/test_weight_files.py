"""Weights are found under every name that diffusers and transformers write or have written."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.errors import DataError
from mre_jax.weights.files.weight_files import choose
from mre_jax.weights.opening import open_model
from tests.weights import tiny
from tests.weights.tiny import stored

DIFFUSION = "diffusion_pytorch_model"


def emptied(folder):
    for path in folder.glob("*model*"):
        path.unlink()
    return folder


@pytest.mark.parametrize(
    "variant", [None, "fp16", "bf16", "non_ema", "my-word", "v1.5", "10-of-20"]
)
@pytest.mark.parametrize("shard", ["10GB", "300KB"])
@pytest.mark.parametrize(
    ("component", "safe"),
    [("unet", True), ("unet", False), ("text_encoder", True)],  # transformers 5 writes no .bin
)
def test_what_the_libraries_save_is_read(folder, component, variant, safe, shard):
    make = {"unet": tiny.make_unet, "text_encoder": tiny.make_text_encoder}[component]
    model, options = make(), {} if component == "text_encoder" else {"safe_serialization": safe}
    shard = "40KB" if component == "text_encoder" and shard == "300KB" else shard
    place = emptied(folder / component)
    model.save_pretrained(place, variant=variant, max_shard_size=shard, **options)
    assert (len(list(place.glob("*-of-*"))) > 1) is (shard != "10GB")
    source = open_model(folder).components[component].source
    prefix = "text_model." if component == "text_encoder" else ""
    theirs = {prefix + name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert source.tensors.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(source.read(name), array)


@pytest.mark.parametrize(
    ("shard", "index"),
    [
        ("{}.fp16-0000{}-of-00002.safetensors", "{}.safetensors.index.fp16.json"),
        ("{}-0000{}-of-00002.fp16.safetensors", "{}.safetensors.fp16.index.json"),
        ("{}-0000{}-of-00002.fp16.safetensors", "{}.fp16.safetensors.index.json"),
        ("{}-0000{}-of-00002.bin", "{}.bin.index.json"),
        ("{}-0000{}-of-00002.non_ema.bin", "{}.bin.index.non_ema.json"),
    ],
)
@pytest.mark.parametrize("library", [DIFFUSION, "model", "pytorch_model"])
def test_shards_under_the_names_of_other_years(folder, library, shard, index):
    """diffusers of 2024 put the variant behind the number; transformers has its own names."""
    torch = pytest.importorskip("torch")
    state = stored(folder / f"unet/{DIFFUSION}.safetensors")
    place, names = emptied(folder / "unet"), sorted(state)
    placed = {name: shard.format(library, 1 + i % 2) for i, name in enumerate(names)}
    for file in set(placed.values()):
        part = {name: state[name] for name in names if placed[name] == file}
        if file.endswith(".bin"):
            torch.save({name: torch.from_numpy(a) for name, a in part.items()}, place / file)
        else:
            save_file(part, place / file)
    (place / index.format(library)).write_text(json.dumps({"weight_map": placed}))
    source = open_model(folder).components["unet"].source
    assert source.tensors.keys() == state.keys()
    for name in names:
        np.testing.assert_array_equal(source.read(name), state[name])


@pytest.mark.parametrize(
    ("names", "weights", "taken"),
    [
        (["model.bin", "model.safetensors"], None, "model.safetensors"),
        (["model.fp16.safetensors", "pytorch_model.bin"], None, "pytorch_model.bin"),
        (["model.bf16.safetensors", "model.fp16.bin"], None, "model.fp16.bin"),
        (["model.fp16.safetensors", "model.mine.bin"], None, "model.mine.bin"),
        (["model.fp32.bin", "model.mine.safetensors"], None, "model.fp32.bin"),
        (["model.non_ema.safetensors", "model.bin"], None, "model.bin"),
        (["model.non_ema.safetensors", "model.fp16.bin"], None, "model.fp16.bin"),
        (["model.non_ema.safetensors", "model.bin"], "raw", "model.non_ema.safetensors"),
        (["model.nonema.fp16.bin", "model.bin"], "raw", "model.nonema.fp16.bin"),
        (["model.ema.bin", "model.safetensors"], None, "model.ema.bin"),
        (["model.ema.bin", "model.safetensors"], "raw", "model.safetensors"),
        (["model.fp16.safetensors", "model.bin"], "raw", "model.bin"),
    ],
)
def test_of_several_sets_the_best_is_taken(names, weights, taken):
    """A user with a full snapshot gets the moving average in full precision."""
    for order in (names, names[::-1]):
        found, others = choose(order, weights)
        assert found.entry == taken
        assert others == [name for name in names if name != taken]


@pytest.mark.parametrize(
    "name",
    [
        *("diffusion_flax_model.msgpack", "tf_model.h5", "openvino_model.bin", "model.onnx"),
        *("optimizer.bin", "pytorch_lora_weights.safetensors", "config.json"),
        "model-00001-of-00002.safetensors",
    ],
)
def test_other_files_are_no_weights(folder, name):
    assert choose([name]) == (None, [])
    (emptied(folder / "unet") / name).touch()
    with pytest.raises(DataError, match=f"unet holds no weights that can be read: .*{name}"):
        open_model(folder)


def test_a_whole_file_is_taken_in_place_of_shards_of_the_same_kind():
    names = ["model.safetensors.index.json", "model-00001-of-00001.safetensors"]
    assert choose(names)[0].files == tuple(names)
    assert choose([*names, "model.safetensors"])[0].files == ("model.safetensors",)


def test_a_choice_is_noted(folder):
    tiny.make_unet().save_pretrained(folder / "unet", variant="fp16")
    assert open_model(folder).notes == (
        f"unet: {DIFFUSION}.safetensors taken, not {DIFFUSION}.fp16.safetensors",
    )


def test_a_variant_without_average_is_the_raw_weights(folder):
    """Stable Diffusion 1.5 keeps both, and only the file's name tells which is which."""
    average = stored(folder / f"unet/{DIFFUSION}.safetensors")
    raw = {name: array + 1 for name, array in average.items()}
    save_file(raw, folder / f"unet/{DIFFUSION}.non_ema.safetensors")
    for weights, state in ((None, average), ("ema", average), ("raw", raw)):
        model = open_model(folder, weights=weights)
        assert model.weights == (weights or "ema")
        array = model.components["unet"].source.read("conv_in.bias")
        np.testing.assert_array_equal(array, state["conv_in.bias"])
    (folder / f"unet/{DIFFUSION}.safetensors").unlink()
    assert open_model(folder).weights == "raw"
    with pytest.raises(DataError, match="holds no EMA weights"):
        open_model(folder, weights="ema")
    path = folder / f"unet/{DIFFUSION}"
    path.with_suffix(".non_ema.safetensors").rename(path.with_suffix(".ema.safetensors"))
    with pytest.raises(DataError, match="holds EMA weights only"):
        open_model(folder, weights="raw")


def test_a_shard_that_is_missing_is_named(folder):
    tiny.make_unet().save_pretrained(emptied(folder / "unet"), max_shard_size="300KB")
    lost = min((folder / "unet").glob("*-of-*"))
    lost.unlink()
    with pytest.raises(DataError, match=f"names the shard {lost.name}, which is missing"):
        open_model(folder)


def test_shards_may_be_links_as_in_the_hubs_cache(folder, tmp_path):
    tiny.make_unet().save_pretrained(emptied(folder / "unet"), max_shard_size="300KB")
    for number, path in enumerate((folder / "unet").glob("*model*")):
        blob = tmp_path / f"{number:064x}"
        path.rename(blob)
        path.symlink_to(blob)
    assert "conv_in.bias" in open_model(folder).components["unet"].source.tensors


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
