"""A written safetensors file is one that safetensors itself would write, or it is not there."""

import io
import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from etils import epath
from safetensors import safe_open
from safetensors.numpy import load_file, save

from mre_jax.errors import DataError
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.files.writer import canonical_order, write_safetensors

TENSORS = {
    "z.half": np.arange(3, dtype=np.float16),
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "a.weight": np.ones((2, 0), np.float32),
    "c.scalar": np.array(2, np.float64),
    "d.brain": np.ones((1, 3, 1), ml_dtypes.bfloat16),
}


def infos(tensors):
    return {name: TensorInfo(array.shape, array.dtype) for name, array in tensors.items()}


def write(path, tensors):
    order = canonical_order(infos(tensors))
    return write_safetensors(path, infos(tensors), ((name, tensors[name]) for name in order))


def test_safetensors_reads_it_back(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS)
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


def test_every_tensor_is_aligned(tmp_path):
    path = tmp_path / "x.safetensors"
    write(path, TENSORS)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    for name, array in TENSORS.items():
        assert header[name]["data_offsets"][0] % array.dtype.itemsize == 0
    theirs = save({name: np.asarray(a, order="C") for name, a in TENSORS.items()}, {"format": "pt"})
    their_length = int.from_bytes(theirs[:8], "little")
    assert header.keys() == json.loads(theirs[8 : 8 + their_length]).keys()
    assert len(content) - length == len(theirs) - their_length


def test_the_digest_is_the_files(tmp_path):
    import hashlib

    digest = write(tmp_path / "x.safetensors", TENSORS)
    assert digest == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "arrays",
    [[], [("a", np.ones(2, np.float32))], [("b", np.ones(2, np.float32))], [("a", np.ones(3))]],
)
def test_a_wrong_stream_leaves_no_file(tmp_path, arrays):
    announced = {name: TensorInfo((2,), np.dtype(np.float32)) for name in "ab"}
    with pytest.raises(ValueError, match="the tensor"):
        write_safetensors(tmp_path / "x.safetensors", announced, arrays)
    assert not list(tmp_path.iterdir())


class FullDisk(io.FileIO):
    """A file on a disk with room for the header."""

    def write(self, data):
        if self.tell() > 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


def test_a_full_disk_is_one_line_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(type(epath.Path()), "open", lambda path, mode: FullDisk(path, mode))
    with pytest.raises(DataError, match=r"x\.safetensors: no space left"):
        write(tmp_path / "x.safetensors", TENSORS)
    assert not list(tmp_path.iterdir())


def test_another_error_of_the_disk_is_not_called_full(tmp_path, monkeypatch):
    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", failing)
    with pytest.raises(OSError, match="Input/output"):
        write(tmp_path / "x.safetensors", TENSORS)
    assert not list(tmp_path.iterdir())


def test_a_kill_in_the_middle_shows_no_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"the old one")
    code = f"""
import os, signal, numpy as np
from pathlib import Path
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.files.writer import write_safetensors

def arrays():
    yield "a", np.ones(1 << 20, np.float32)
    os.kill(os.getpid(), signal.SIGKILL)

infos = {{name: TensorInfo((1 << 20,), np.dtype(np.float32)) for name in "ab"}}
write_safetensors(Path({str(path)!r}), infos, arrays())
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert path.read_bytes() == b"the old one"


def test_memory_is_that_of_one_tensor(tmp_path):
    """256 MiB in 64 tensors grow a process by far less."""
    code = f"""
import resource, numpy as np
from pathlib import Path
from mre_jax.weights.files.source import TensorInfo
from mre_jax.weights.files.writer import write_safetensors

infos = {{f"{{i:03}}": TensorInfo((1 << 20,), np.dtype(np.float32)) for i in range(64)}}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
arrays = ((name, np.ones(1 << 20, np.float32)) for name in infos)
write_safetensors(Path({str(tmp_path / "x.safetensors")!r}), infos, arrays)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 32 * 1024  # KiB
    assert len(load_file(tmp_path / "x.safetensors")) == 64
