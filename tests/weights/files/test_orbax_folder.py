"""Our own form of the weights notices the damage that Orbax does not."""

import json

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.weights.files import orbax_folder
from mre_jax.weights.files.orbax_folder import OrbaxComponent, write_orbax

PATHS = {
    "a.0.weight": ("a", 0, "kernel"),
    "a.1.weight": ("a", 1, "kernel"),
    "norm.weight": ("norm", "scale"),
    "norm.bias": ("norm", "bias"),
}
ARRAYS = {
    "a.0.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "norm.weight": np.ones(3, np.float32),
    "norm.bias": np.zeros(3, np.float32),
}


@pytest.fixture
def component(tmp_path):
    write_orbax(tmp_path, PATHS, iter(ARRAYS.items()))
    return tmp_path


@pytest.mark.parametrize("batch_bytes", [1, 1 << 30])
def test_tensors_come_back_in_any_order(component, monkeypatch, batch_bytes):
    monkeypatch.setattr(orbax_folder, "_BATCH_BYTES", batch_bytes)
    source = OrbaxComponent(component)
    assert source.tensors.keys() == ARRAYS.keys()
    for name in (*sorted(ARRAYS, reverse=True), *ARRAYS):
        assert source.tensors[name].shape == ARRAYS[name].shape
        np.testing.assert_array_equal(source.read(name), ARRAYS[name])


def test_a_tensor_that_changed_is_refused(component):
    path = component / "tensors.json"
    checksums = json.loads(path.read_text())
    path.write_text(json.dumps(checksums | {"norm.bias": 1}))
    source = OrbaxComponent(component)
    source.read("norm.weight")
    with pytest.raises(DataError, match=r"norm\.bias does not have its saved checksum"):
        source.read("norm.bias")


@pytest.mark.parametrize("name", ["tensors.json", "orbax/_METADATA"])
def test_an_incomplete_checkpoint_is_refused(component, name):
    (component / name).unlink()
    with pytest.raises(DataError, match="is not a readable checkpoint"):
        OrbaxComponent(component)
