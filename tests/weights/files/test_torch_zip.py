"""A PyTorch checkpoint from a stranger gives its tensors, and never gets to do anything."""

import argparse
import collections
import datetime
import io
import pickle
import struct
import sys
import types
import uuid
import zipfile

import ml_dtypes
import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.weights.files.source import PickledFile
from mre_jax.weights.files.torch_zip import PickledCheckpoint
from tests.weights.files.damage import damaged

torch = pytest.importorskip("torch")


def saved(path, value):
    torch.save(value, path)
    return path


def archive(path, program: bytes, data: dict[str, bytes] | None = None, compress=False):
    """A file like torch.save's with a hand-made pickle in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else 0) as file:
        file.writestr("archive/data.pkl", program)
        for key, content in (data or {}).items():
            file.writestr(f"archive/data/{key}", content)
    return path


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8"],
)
def test_every_dtype_comes_bit_for_bit(tmp_path, dtype):
    tensor = torch.randn(3, 4).mul(10).to(getattr(torch, dtype))
    source = PickledFile(saved(tmp_path / "x.bin", {"x": tensor}))
    array = source.read("x")
    assert array.dtype.name == dtype == source.tensors["x"].dtype.name
    assert array.tobytes() == tensor.view(torch.uint8).numpy().tobytes()


def test_views_into_one_storage_are_honoured(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = collections.OrderedDict(
        transposed=base.t(),
        window=base[1:3, 2:5],
        strided=base[:, ::2],
        scalar=torch.tensor(3.0),
        empty=torch.zeros(0, 3),
        expanded=torch.tensor([7.0]).expand(5),
        parameter=torch.nn.Parameter(base[2]),
    )
    source = PickledFile(saved(tmp_path / "x.pt", state))
    assert set(source.tensors) == set(state)
    for name, tensor in state.items():
        array = source.read(name)
        assert array.flags.c_contiguous and array.shape == source.tensors[name].shape
        np.testing.assert_array_equal(array, tensor.detach().numpy())


def test_a_module_state_dict_with_its_metadata_loads(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    source = PickledFile(saved(tmp_path / "x.pt", module.state_dict()))
    np.testing.assert_array_equal(source.read("0.weight"), module[0].weight.detach().numpy())


def test_a_training_checkpoint_with_framework_objects_gives_its_tensors(tmp_path, monkeypatch):
    """As MagicBrush's: callbacks keyed by class, numpy scalars, a configuration, an optimizer."""

    module = types.ModuleType("pytorch_lightning")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    checkpoint = {
        "state_dict": {"w": torch.ones(2, 2)},
        "global_step": 22000,
        "callbacks": {
            module.ModelCheckpoint: {"best": np.float64(0.5), "paths": {"a": np.arange(3)}}
        },
        "hyper_parameters": argparse.Namespace(rate=1e-4, kind=collections.defaultdict(list)),
        "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}}],
        "made": module.ModelCheckpoint(),
    }
    path = saved(tmp_path / "x.ckpt", checkpoint)
    monkeypatch.delitem(sys.modules, module.__name__)
    source = PickledFile(path)
    assert list(source.tensors) == ["w"]
    np.testing.assert_array_equal(source.read("w"), np.ones((2, 2)))


class Gadget:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def gadget_programs(marker):
    command = f"touch {marker}"
    touch = f"open({str(marker)!r}, 'w')"
    import os

    yield "posix.system", pickle.dumps({"x": Gadget(os.system, command)}, 2)
    yield "posix.system", pickle.dumps({"x": [({"y": Gadget(os.system, command)},)]}, 4)
    for function in (eval, exec):
        yield f"builtins.{function.__name__}", pickle.dumps(Gadget(function, touch), 4)
    yield "builtins.getattr", pickle.dumps(Gadget(getattr, "", "join"), 4)
    yield "__builtin__.eval", pickle.dumps(Gadget(eval, touch), 0)
    text = pickle.dumps(command, 0)[:-1]
    yield "os.system", b"(" + text + b"ios\nsystem\n."
    yield "os.system", b"(cos\nsystem\n" + text + b"o."
    yield "os.system", b"cos\nsystem\n" + text + b"\x85\x81."
    yield "builtins.eval", b"\x8c\x08builtins\x8c\x04eval\x93" + text + b"\x85R."
    # The state of an allowed object names the gadget.
    yield "os.system", b"cargparse\nNamespace\n)\x81}" + b"Vx\ncos\nsystem\n" + text + b"\x85Rsb."
    yield "torch.storage._load_from_bytes", b"ctorch.storage\n_load_from_bytes\n" + text + b"\x85R."
    yield "torch.hub.load", b"ctorch.hub\nload\n" + text + b"\x85R."
    yield "numpy.load", b"cnumpy\nload\n" + text + b"\x85R."
    yield "pytorch_lightningx.run", b"cpytorch_lightningx\nrun\n)R."


def test_a_gadget_is_refused_by_name_and_never_runs(tmp_path):
    marker = tmp_path / "ran"
    for number, (name, program) in enumerate(gadget_programs(marker)):
        path = archive(tmp_path / f"{number}.ckpt", program)
        with pytest.raises(DataError, match=f"refused: .*{number}.ckpt asks to call {name};"):
            PickledCheckpoint(path)
    assert not marker.exists()


def tensor_program(offset=0, shape=(2,), strides=(1,), key="0", size=4):
    def numbers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    storage = f"(Vstorage\nctorch\nFloatStorage\nV{key}\nVcpu\nI{size}\ntQ".encode()
    tail = f"I{offset}\n".encode() + numbers(shape) + numbers(strides)
    return b"}Vx\nctorch._utils\n_rebuild_tensor_v2\n(" + storage + tail + b"\x89}tRs."


@pytest.mark.parametrize(
    "wrong",
    [
        {"offset": 3},
        {"shape": (5,)},
        {"strides": (4,)},
        {"size": 400, "shape": (100,)},
        {"shape": (1 << 20, 1 << 20), "strides": (0, 0)},
        {"key": "../../../etc/passwd"},
        {"offset": -1},
        {"strides": (-1,)},
    ],
)
def test_a_tensor_that_reaches_outside_its_storage_is_refused(tmp_path, wrong):
    data = {"0": np.arange(4, dtype=np.float32).tobytes()}
    good = PickledCheckpoint(archive(tmp_path / "good.pt", tensor_program(), data))
    np.testing.assert_array_equal(good.read(good.tensors["x"]), [0, 1])
    with pytest.raises(DataError, match=r"outside its storage|lacks the data|damaged pickle"):
        PickledCheckpoint(archive(tmp_path / "bad.pt", tensor_program(**wrong), data))


def test_compressed_members_are_refused(tmp_path):
    path = archive(tmp_path / "x.pt", tensor_program(), {"0": bytes(1 << 20)}, compress=True)
    with pytest.raises(DataError, match="compressed or encrypted"):
        PickledCheckpoint(path)


def test_members_that_overlap_are_refused(tmp_path):
    data = {"0": bytes(64), "1": bytes(64)}
    content = bytearray(archive(tmp_path / "x.pt", tensor_program(), data).read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    other = content.rindex(b"PK\x01\x02", 0, entry)
    content[entry + 42 : entry + 46] = content[other + 42 : other + 46]
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(DataError, match="overlaps"):
        PickledCheckpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a checkpoint", b"\x80\x02}."])
def test_something_else_is_refused(tmp_path, content):
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.bin is not a readable PyTorch file"):
        PickledCheckpoint(tmp_path / "x.bin")


def test_a_file_without_tensors_says_so(tmp_path):
    with pytest.raises(DataError, match="holds no tensors"):
        PickledCheckpoint(saved(tmp_path / "x.pt", {"epoch": 3}))


def test_a_flipped_bit_in_the_data_is_found_on_reading(tmp_path):
    path = saved(tmp_path / "x.pt", {"x": torch.full((50,), 3.0)})
    content = bytearray(path.read_bytes())
    content[content.index(np.full(50, 3, np.float32).tobytes()) + 17] ^= 8
    path.write_bytes(content)
    source = PickledFile(path)
    with pytest.raises(DataError, match="does not have the checksum"):
        source.read("x")


def test_a_file_saved_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path / "x.pt", {"x": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(PickledFile(path).read("x"), np.ones(3))


def test_damage_anywhere_is_a_data_error_or_harmless(tmp_path):
    """Truncated or with a flipped bit at random: either the right tensors or a `DataError`."""
    state = {"a": torch.randn(5, 5), "b": torch.randn(7).to(torch.bfloat16)}
    buffer = io.BytesIO()
    torch.save({"state_dict": state, "step": np.float32(3)}, buffer)
    whole = buffer.getvalue()
    path = tmp_path / "x.ckpt"
    for _, content in damaged(whole):
        path.write_bytes(content)
        try:
            source = PickledFile(path)
            arrays = {name: source.read(name) for name in source.tensors}
        except DataError as error:
            assert "\n" not in str(error)
            continue
        if set(arrays) == {"a", "b"}:
            np.testing.assert_array_equal(arrays["a"], state["a"].numpy())
            assert arrays["b"].dtype == ml_dtypes.bfloat16


def test_the_strength_of_a_lora_is_not_dropped_where_it_is_no_tensor(tmp_path):
    """Without it the LoRA would act at another strength."""
    torch.save({"a.lora_up.weight": torch.ones(2, 2), "a.alpha": 4.0}, tmp_path / "lora.pt")
    with pytest.raises(DataError, match=r"a\.alpha is a plain number; save it as a tensor"):
        PickledCheckpoint(tmp_path / "lora.pt")


def test_tensors_that_carry_attributes_are_read(tmp_path):
    """Libraries mark parameters, and PyTorch saves such ones by another program."""
    marked, parameter = torch.ones(2), torch.nn.Parameter(torch.ones(3))
    marked.note = parameter.note = "initialised"
    torch.save({"a": marked, "b": parameter}, tmp_path / "marked.pt")
    source = PickledFile(tmp_path / "marked.pt")
    assert [source.read(name).tolist() for name in ("a", "b")] == [[1, 1], [1, 1, 1]]


def test_what_trainers_record_beside_the_weights_is_skipped(tmp_path):
    beside = {
        "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "seen": collections.Counter("ab"),
        "last": collections.deque([1.0], maxlen=3),
        "id": uuid.UUID(int=1),
        "dtype": torch.float8_e4m3fn,
        "layout": torch.strided,
    }
    torch.save({"model": {"a": torch.ones(2)}, **beside}, tmp_path / "run.pt")
    assert list(PickledCheckpoint(tmp_path / "run.pt").tensors) == ["a"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2).to(torch.float8_e4m3fn),
        torch.ones(2).to_sparse(),
        torch.empty(2, device="meta"),
    ],
)
def test_tensors_of_other_kinds_are_said_to_be_so(tensor, tmp_path):
    torch.save({"a": tensor}, tmp_path / "odd.pt")
    with pytest.raises(DataError, match="sparse, quantised, of 8 bits, or without values"):
        PickledCheckpoint(tmp_path / "odd.pt")
