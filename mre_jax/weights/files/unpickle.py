"""PyTorch's pickles by the standard library's `pickle.Unpickler`, with nothing real within reach.

A pickle is a program for a small stack machine, which looks up and calls whatever the program
names. Here a name gives a stand-in, a class that makes plain values or nothing, and a name that no
weight file needs ends the reading, since a file that mentions it is not to be trusted. What the
machine would do by itself is bounded before it starts: each opcode passes `_bounded`, in which
whatever hashes a value of the file's (a dict, a set) is exchanged for something that does not.
"""

import io
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from mre_jax.errors import DataError


class Storage(NamedTuple):
    """A flat array of `size` elements, kept in the archive under `data/<key>`."""

    dtype: np.dtype
    key: str
    size: int


class StoredTensor(NamedTuple):
    """A strided window into a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Inert:
    """What stands for a class or function of which nothing is kept, and what a call of it gives."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    @staticmethod
    def _ignore(*_: Any) -> None:
        """Drops what the program puts into an object; and into a class, which stays as it is."""

    append = extend = __setitem__ = __setstate__ = _ignore


def unpickle(
    program: io.BytesIO, origin: str, *, remedy: str = "", opcodes: int | None = None
) -> Any:
    """The value that the next pickle of `program` describes; what stands behind it is not read.

    Dicts, lists, tuples, strings and numbers come back as themselves, but for a set, which is a
    list, and for a dict's entries under other keys than names and small numbers, which are left
    out. Tensors are `StoredTensor`, and every other object is `Inert`.

    Args:
        origin: what errors call it.
        remedy: what to do about a refused one; by default that of weights.
        opcodes: of a longer program nothing is read; by default what weights take.

    Raises:
        DataError: naming `origin`, when the program is damaged, or asks for a global or an opcode
            that no weight file needs.
    """
    remedy = remedy or _REMEDY
    try:
        bounded = io.BytesIO(_bounded(program, origin, remedy, opcodes or _OPCODE_LIMIT))
        return _Unpickler(bounded, origin, remedy).load()
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(
            f"{origin} holds a damaged pickle ({_shown(str(error))}); fetch it again"
        ) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, program: io.BytesIO, origin: str, remedy: str):
        # Python 2 put bytes of any kind into its strings.
        super().__init__(program, encoding="latin1")
        self._origin, self._remedy = origin, remedy

    def find_class(self, module: str, name: str) -> Any:
        wanted = _shown(f"{module}.{name}")
        if wanted in _STAND_INS:
            return _STAND_INS[wanted]
        if module.split(".", 1)[0] in _INERT_PACKAGES:
            return Inert
        if module == "torch._utils":
            raise DataError(
                f"{self._origin} holds a tensor that is sparse, quantised, of 8 bits, or without "
                f"values ({_shown(name)}); save it dense, as float32, float16 or bfloat16"
            )
        raise DataError(
            f"refused: {self._origin} asks to call {wanted}; nothing was executed. {self._remedy}"
        )

    def persistent_load(self, pid: Any) -> Any:
        """A storage; or a dict, empty or of the keys and values that `_bounded` put into a list."""
        if not isinstance(pid, tuple):
            return _Dict(pid or ())
        # Before PyTorch 1.6 a sixth entry said that a storage is part of another; None is a whole.
        _kind, storage_class, key, _location, size, *parts = pid
        dtype = getattr(storage_class, "dtype", None)
        whole = all(part is None for part in parts)
        if dtype is None or not isinstance(key, str) or not _is_count(size) or not whole:
            raise ValueError("a storage is not described as PyTorch does")
        return Storage(dtype, key, size)


class _Dict(dict):
    """A dict that never hashes what the file has made: a tuple may be nested without end.

    Args:
        items: keys and values in turn.
    """

    def __init__(self, items: Any = ()):
        super().__init__()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        is_name = type(key) is str and len(key) <= _NAME_LIMIT and key.isprintable()
        if type(key) is str and not is_name and isinstance(value, StoredTensor):
            raise ValueError(f"a tensor's name is {len(key)} characters or not to be printed")
        # Large numbers can be made to collide.
        if is_name or (type(key) is int and key.bit_length() < 32):
            super().__setitem__(key, value)

    def __setstate__(self, _: Any) -> None:
        """Drops the attributes of an `OrderedDict`."""


def _bounded(program: io.BytesIO, origin: str, remedy: str, opcodes: int) -> bytes:
    """The next pickle of `program`, opcode by opcode, with its containers exchanged.

    Every length that it states is one that it has; a memo is not sparse, which the machine would
    fill with zeros.
    """
    data, bounded = program.getbuffer(), bytearray()
    for count, (opcode, argument, position) in enumerate(pickletools.genops(program)):
        if opcode.name in _REFUSED or opcode.proto > _PROTOCOL:
            raise DataError(
                f"refused: {origin} uses the pickle opcode {opcode.name}, which plain values "
                f"do not need; nothing was executed. {remedy}"
            )
        if count >= opcodes:
            raise ValueError("it goes on without end")
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise ValueError(f"memo {argument} of {count}")
        bounded += _EXCHANGED.get(opcode.name, data[position : program.tell()])
    return bytes(bounded)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    described = (
        isinstance(storage, Storage)
        and _is_count(offset)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MOST_AXES
        and all(map(_is_count, (*shape, *strides)))
    )
    if not described:
        raise ValueError("a tensor is not described as PyTorch does")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_type(rebuild: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with attributes of its own, which are left."""
    known = isinstance(rebuild, type) and issubclass(rebuild, _Rebuilt)
    if not (known and isinstance(arguments, tuple)):
        raise ValueError("a tensor is not described as PyTorch does")
    return rebuild(*arguments)


def _shown(text: str) -> str:
    """As it may stand in a message of one line."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


class _Rebuilt(Inert):
    """The stand-in of a function that makes a tensor."""

    __slots__ = ()

    @classmethod
    def by(cls, function: Callable[..., Any]) -> type:
        return type(cls.__name__, (cls,), {"__new__": lambda _, *args, **__: function(*args)})


def _storage_class(dtype: Any) -> type:
    return type("_StorageClass", (Inert,), {"__slots__": (), "dtype": np.dtype(dtype)})


_STAND_INS: Mapping[str, type] = {
    "collections.OrderedDict": type("_New", (Inert,), {"__new__": lambda *_, **__: _Dict()}),
    "collections.defaultdict": type("_New", (Inert,), {"__new__": lambda *_, **__: _Dict()}),
    "torch._utils._rebuild_tensor_v2": _Rebuilt.by(_tensor),
    "torch._utils._rebuild_parameter": _Rebuilt.by(_parameter),
    "torch._utils._rebuild_parameter_with_state": _Rebuilt.by(_parameter),
    "torch._tensor._rebuild_from_type_v2": _Rebuilt.by(_of_type),
    "torch.DoubleStorage": _storage_class(np.float64),
    "torch.FloatStorage": _storage_class(np.float32),
    "torch.HalfStorage": _storage_class(np.float16),
    "torch.BFloat16Storage": _storage_class(ml_dtypes.bfloat16),
    "torch.LongStorage": _storage_class(np.int64),
    "torch.IntStorage": _storage_class(np.int32),
    "torch.ShortStorage": _storage_class(np.int16),
    "torch.CharStorage": _storage_class(np.int8),
    "torch.ByteStorage": _storage_class(np.uint8),
    "torch.BoolStorage": _storage_class(np.bool_),
} | {
    f"{module}.{name}": Inert
    for module, names in {
        "torch": (
            "Size device Tensor float64 float32 float16 bfloat16 float8_e4m3fn float8_e5m2 int64 "
            "int32 int16 int8 uint8 bool complex64 complex128"
        ),
        "torch.nn.parameter": "Parameter Buffer",
        "torch.serialization": "_get_layout",
        "collections": "Counter deque",
        "datetime": "date datetime timedelta timezone",
        "decimal": "Decimal",
        "uuid": "UUID",
        "argparse": "Namespace",
        "numpy": "dtype ndarray",
        "numpy.core.multiarray": "scalar _reconstruct",
        "numpy._core.multiarray": "scalar _reconstruct",
        "_codecs": "encode",
        "typing": "Any",
        "pathlib": "Path PosixPath PurePosixPath",
        "builtins": "dict list tuple set frozenset str bytes int float",
        "__builtin__": "dict list tuple set frozenset str int float",
    }.items()
    for name in names.split()
}
_INERT_PACKAGES = ("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf")

# Opcodes that reach outside the file.
_REFUSED = ("EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER")
_PROTOCOL = 5
_EXCHANGED = {
    "FRAME": b"",
    # `persistent_load` of None, or of a list.
    "EMPTY_DICT": pickle.NONE + pickle.BINPERSID,
    "DICT": pickle.LIST + pickle.BINPERSID,
    "EMPTY_SET": pickle.EMPTY_LIST,
    "FROZENSET": pickle.LIST,
    "ADDITEMS": pickle.APPENDS,
}
_OPCODE_LIMIT = 1 << 21
_NAME_LIMIT = 500
_MOST_AXES = 32

_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, LookupError),
    *(ArithmeticError, RecursionError),
)
_REMEDY = (
    "Take these weights as safetensors from a source that you trust, or as a state dict alone, "
    "saved again where the file was made"
)
