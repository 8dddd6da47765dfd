"""Damaged or foreign weight files are refused by name before anything is built on them."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from mre_jax.errors import DataError
from mre_jax.weights.files.source import (
    Cast,
    SafetensorsFile,
    ShardedTensors,
    open_tensors,
    renamed,
)

TENSORS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4).astype(ml_dtypes.bfloat16),
    "c": np.array(3, np.float16),
    "d": np.arange(3),
}


@pytest.fixture
def file(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_safetensors_are_described_and_read_bit_for_bit(file):
    source = open_tensors(file)
    assert set(source.tensors) == set(TENSORS)
    for name, array in TENSORS.items():
        read = source.read(name)
        assert source.tensors[name] == (array.shape, array.dtype) == (read.shape, read.dtype)
        assert read.tobytes() == array.tobytes()


def damaged(content):
    yield "truncated", content[:-3]
    yield "no header", content[:5]
    yield "empty", b""
    yield "huge header", (1 << 60).to_bytes(8, "little") + content[8:]
    yield "unknown dtype", content.replace(b"BF16", b"XX16")
    yield "offsets", content.replace(b"[0,24]", b"[0,99]")
    yield "trailing bytes", content + b"xx"
    yield "gap", content.replace(b"[56,58]", b"[58,60]") + b"xx"
    yield "overlap", content.replace(b"[24,48]", b"[16,40]")
    yield "no JSON", content[:8] + b"x" + content[9:]
    yield "not UTF-8", content.replace(b'"a"', b'"\xff"')


def test_a_damaged_safetensors_file_is_named(file):
    for kind, content in damaged(file.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"model\.safetensors is not a readable") as error:
            SafetensorsFile(file)
            pytest.fail(kind)
        assert "\n" not in str(error.value), kind


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.safetensors is not a readable"):
        open_tensors(tmp_path / "none.safetensors")


def test_a_dtype_that_no_model_uses_is_refused(file):
    file.write_bytes(file.read_bytes().replace(b'"I64","shape":[3]', b'"U64","shape":[3]'))
    with pytest.raises(DataError, match="dtype U64"):
        SafetensorsFile(file)


def test_an_unknown_kind_of_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"weights\.msgpack is not a weight file"):
        open_tensors(tmp_path / "weights.msgpack")


def write_shards(folder, placed):
    for shard in set(placed.values()):
        names = [name for name in TENSORS if placed.get(name) == shard]
        save_file({name: TENSORS[name] for name in names}, folder / shard)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return index


def test_shards_read_as_one(tmp_path):
    index = write_shards(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    source = open_tensors(index)
    assert list(source.tensors) == ["a", "b"]
    np.testing.assert_array_equal(source.read("b"), TENSORS["b"])


def test_shards_that_disagree_with_their_index_are_refused(tmp_path):
    index = write_shards(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "x": "2.safetensors"}}))
    with pytest.raises(DataError, match="disagree about"):
        ShardedTensors(index)
    for weight_map in ({"a": "../1.safetensors"}, {"a": "/etc/x.safetensors"}, {"a": 3}):
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(DataError, match="outside its folder"):
            ShardedTensors(index)
    for text in ("{", "[]", '{"weight_map": 3}', "{}"):
        index.write_text(text)
        with pytest.raises(DataError, match="not a readable index"):
            ShardedTensors(index)


def test_two_names_for_one_tensor_are_refused(file):
    source = SafetensorsFile(file)
    assert set(renamed(source, lambda name: None if name == "a" else f"x.{name}").tensors) == {
        *("x.b", "x.c", "x.d"),
    }
    with pytest.raises(DataError, match="holds same twice"):
        renamed(source, lambda name: "same")


def test_a_cast_touches_floats_only(file):
    cast = Cast(SafetensorsFile(file), np.dtype(np.float16))
    assert {name: cast.read(name).dtype.name for name in "abcd"} == {
        **{"a": "float16", "b": "float16", "c": "float16", "d": "int64"},
    }
    assert cast.tensors["d"].dtype == np.int64
