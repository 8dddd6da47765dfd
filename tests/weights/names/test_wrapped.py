"""Weights that a compiled, distributed or whole module saved are read under their own names."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.errors import DataError
from mre_jax.weights.names.rule import expected_tensors
from mre_jax.weights.names.strict import stream
from mre_jax.weights.opening import model_at, open_model
from tests.weights.tiny import stored

FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
    "text_encoder": "text_encoder/model.safetensors",
}


def assert_same(ours, theirs):
    assert ours.tensors.keys() == theirs.tensors.keys()
    for name in theirs.tensors:
        np.testing.assert_array_equal(ours.read(name), theirs.read(name))


@pytest.mark.parametrize(
    ("component", "prefix", "said"),
    [
        ("unet", "module.", "'module.'"),
        ("unet", "_orig_mod.", "'_orig_mod.'"),
        ("unet", "_orig_mod.module.", "'_orig_mod.', 'module.'"),
        ("unet", "unet.", "the prefix 'unet.'"),
        ("unet", "anything.at.all.", "the prefix 'anything.at.all.'"),
        ("vae", "model.", "the prefix 'model.'"),
        ("text_encoder", "text_encoder.text_model.", "the prefix 'text_encoder.text_model.'"),
        ("text_encoder", "text_model.text_model.", "the prefix 'text_model.text_model.'"),
    ],
)
def test_a_prefix_of_all_names_is_taken_off(folder, pipeline_folder, component, prefix, said):
    path = folder / FILES[component]
    save_file({prefix + name: array for name, array in stored(path).items()}, path)
    model = open_model(folder)
    assert model.notes == (f"{component}: names read without {said}",)
    theirs = open_model(pipeline_folder).components[component].source
    assert_same(model.components[component].source, theirs)


def test_a_wrapper_inside_the_names_is_taken_off(folder, pipeline_folder):
    """`torch.compile` of single blocks leaves its name in the middle."""
    path = folder / FILES["unet"]
    names = {name: name.replace("mid_block.", "mid_block._orig_mod.") for name in stored(path)}
    save_file({names[name]: array for name, array in stored(path).items()}, path)
    theirs = open_model(pipeline_folder).components["unet"].source
    assert_same(open_model(folder).components["unet"].source, theirs)


def test_clip_may_stand_without_its_prefix(folder, pipeline_folder):
    path = folder / FILES["text_encoder"]
    plain = {name.removeprefix("text_model."): array for name, array in stored(path).items()}
    for prefix in ("", "text_model."):
        save_file({prefix + name: array for name, array in plain.items()}, path)
        model = open_model(folder)
        assert model.notes == ()
        theirs = open_model(pipeline_folder).components["text_encoder"].source
        assert_same(model.components["text_encoder"].source, theirs)


def test_other_parts_of_a_model_that_was_saved_as_one_are_left_out_by_a_note(folder):
    path = folder / FILES["unet"]
    state = {f"unet.{name}": array for name, array in stored(path).items()}
    others = {name: np.ones(3, np.float32) for name in ("vae.encoder.bias", "loss.logvar")}
    save_file(state | others, path)
    notes = open_model(folder).notes
    assert notes[1] == "unet: 2 tensors that are not used left out, such as loss.logvar"


def test_what_does_not_fit_without_its_prefix_is_told_with_it(folder):
    path = folder / FILES["unet"]
    state = {f"module.{name}": array for name, array in stored(path).items()}
    del state["module.conv_in.bias"]
    save_file(state, path)
    component = open_model(folder).components["unet"]
    with pytest.raises(DataError) as error:
        list(stream(expected_tensors(component.network()), component.source))
    assert "(its names without 'module.')" in str(error.value)
    assert "1 missing: conv_in.bias" in str(error.value) and "\n" not in str(error.value)


def test_a_tensor_with_and_without_the_prefix_is_refused(folder):
    path = folder / FILES["unet"]
    state = {f"net.{name}": array for name, array in stored(path).items()}
    save_file(state | {"conv_in.bias": state["net.conv_in.bias"]}, path)
    with pytest.raises(DataError, match=r"holds conv_in\.bias twice"):
        open_model(folder)


def test_one_network_under_two_prefixes_is_refused(folder):
    path = folder / FILES["unet"]
    state = stored(path)
    twice = {f"{p}.{name}": array for p in ("online", "ema_model") for name, array in state.items()}
    save_file(twice, path)
    with pytest.raises(DataError, match=r"several times, under 'ema_model\.', 'online\.'"):
        open_model(folder)


def test_a_mismatch_is_short(folder):
    path = folder / FILES["unet"]
    save_file({f"x{name}": array for name, array in stored(path).items()}, path)
    component = open_model(folder).components["unet"]
    with pytest.raises(DataError) as error:
        list(stream(expected_tensors(component.network()), component.source))
    assert " more; " in str(error.value) and len(str(error.value)) < 700


def test_a_base_may_be_wrapped_too(folder, pipeline_folder):
    path = folder / FILES["vae"]
    save_file({f"module.{name}": array for name, array in stored(path).items()}, path)
    theirs = open_model(pipeline_folder).components["vae"].source
    with model_at(pipeline_folder / "unet", base=folder) as model:
        assert_same(model.components["vae"].source, theirs)
