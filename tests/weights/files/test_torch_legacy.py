"""The format before PyTorch 1.6, in which the weights of FID are published."""

import collections
import io

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.weights.files.source import PickledFile
from tests.weights.files.damage import damaged

torch = pytest.importorskip("torch")


def saved(path, value):
    torch.save(value, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64", "int64", "uint8"])
def test_every_dtype_comes_bit_for_bit(tmp_path, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(getattr(torch, dtype))
    source = PickledFile(saved(tmp_path / "x.pth", {"first": torch.ones(5), "x": tensor}))
    array = source.read("x")
    assert array.dtype.name == dtype == source.tensors["x"].dtype.name
    assert array.tobytes() == tensor.view(torch.uint8).numpy().tobytes()
    np.testing.assert_array_equal(source.read("first"), np.ones(5))


def test_a_modules_state_dict_and_views_are_honoured(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    module = torch.nn.BatchNorm2d(3)
    state = collections.OrderedDict(
        transposed=base.t(), window=base[1:3, 2:5], empty=torch.zeros(0, 3), **module.state_dict()
    )
    state._metadata = module.state_dict()._metadata
    source = PickledFile(saved(tmp_path / "x.pth", {"state_dict": state}))
    assert list(source.tensors) == list(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(source.read(name), tensor.numpy(), strict=True)


class Gadget:
    def __reduce__(self):
        return print, ("executed",)


def test_a_gadget_is_refused_by_name_and_never_runs(tmp_path, capsys):
    path = saved(tmp_path / "x.pth", {"x": torch.ones(2), "other": Gadget()})
    with pytest.raises(DataError, match=r"refused: .*print; nothing was executed"):
        PickledFile(path)
    assert "executed" not in capsys.readouterr().out


def test_what_cannot_be_read_says_why_in_one_line(tmp_path):
    more = saved(tmp_path / "more.pth", {"x": torch.ones(2), "optimizer": {"y": torch.ones(3)}})
    with pytest.raises(DataError, match=r"more than a state dict.*safetensors"):
        PickledFile(more)
    with pytest.raises(DataError, match="holds no tensors"):
        PickledFile(saved(tmp_path / "none.pth", {"epoch": 3}))
    whole = saved(tmp_path / "x.pth", {"x": torch.ones(2)}).read_bytes()
    start = whole.index(b"little_endian")
    flipped = whole[start:].replace(b"\x88", b"\x89", 1)
    (tmp_path / "big.pth").write_bytes(whole[:start] + flipped)
    with pytest.raises(DataError, match="another byte order"):
        PickledFile(tmp_path / "big.pth")


def test_damage_anywhere_is_a_data_error_or_harmless(tmp_path):
    """Truncated or with a flipped bit: a `DataError`, or tensors of the right shapes.

    The format has no checksum: a bit of a value, or of a name, cannot be told.
    """
    buffer = io.BytesIO()
    state = {"a": torch.randn(5, 5), "b": torch.randn(7).to(torch.bfloat16)}
    torch.save(state, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    path = tmp_path / "x.pth"
    for truncated, content in damaged(whole):
        path.write_bytes(content)
        try:
            source = PickledFile(path)
            arrays = [source.read(name) for name in source.tensors]
        except DataError as error:
            assert "\n" not in str(error)
            continue
        assert not truncated, "a truncated file was taken for a whole one"
        assert len(arrays) <= 2
        assert sum(array.nbytes for array in arrays) <= len(whole)
