"""A model is put together from what its path holds and what its base has besides."""

import shutil

import numpy as np
import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.weights.digest import weights_hash
from mre_jax.weights.files.folder import COMPONENTS
from mre_jax.weights.load import load_component, load_model
from mre_jax.weights.names.rule import tensors
from mre_jax.weights.opening import model_at, open_model


def test_a_lone_component_and_a_base_are_a_whole_model(pipeline_folder):
    """A trainer leaves `checkpoint-500/unet`; the rest is that of the model it began with."""
    with model_at(pipeline_folder / "unet", base=pipeline_folder) as model:
        assert set(model.components) == set(COMPONENTS) and not model.lone
        assert "tokenizer/vocab.json" in model.files
    loaded = load_model(pipeline_folder / "unet", base=pipeline_folder)
    assert loaded.base == pipeline_folder
    hashes = {weights_hash(pipeline_folder), weights_hash(loaded.origin, base=loaded.base)}
    assert len(hashes) == 1


def test_a_lone_component_is_no_editor(pipeline_folder):
    with pytest.raises(DataError, match=r"unet lacks vae/.*--base"):
        load_model(pipeline_folder / "unet")


def test_a_component_comes_from_the_base_where_the_model_lacks_it(folder, pipeline_folder):
    shutil.rmtree(folder / "vae")
    ours = dict(tensors(load_component("vae", folder, base=pipeline_folder)))
    for name, array in tensors(load_component("vae", pipeline_folder)):
        np.testing.assert_array_equal(ours[name], array)


def test_weights_that_are_neither_are_refused(pipeline_folder):
    with pytest.raises(ConfigError, match="weights 'both' is neither 'ema' nor 'raw'"):
        open_model(pipeline_folder, weights="both")
