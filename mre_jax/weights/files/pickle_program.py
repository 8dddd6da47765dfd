"""The program inside a pickle, carried out over inert values.

A pickle is a program for a small stack machine, and Python's own machine imports and calls whatever
the program names. This one keeps the stack machine and drops the rest: a name becomes a `Name`,
a call of a known name becomes a plain value, and nothing is imported, looked up or called. Names
that no weight file needs end the reading, since a file that mentions them is not to be trusted.
"""

import pickletools
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import ml_dtypes
import numpy as np

from mre_jax.errors import DataError


class Name(NamedTuple):
    """A global that the program mentions: its module and its name there."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


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
    """The result of a harmless call, of which nothing is kept."""


def run(program: bytes | IO[bytes], origin: str) -> Any:
    """The value that the pickle `program` describes; of a file no more than the pickle is read.

    Dicts, lists, tuples, strings and numbers come back as themselves, tensors as `StoredTensor`
    and every other object as `Inert` or `Name`. A dict key that is not a plain value is replaced
    by an `Inert`, so that hashing is never left to the file.

    Raises:
        DataError: naming `origin`, when the program is damaged, or asks for a global or an opcode
            that no weight file needs.
    """
    machine = _Machine(origin)
    try:
        for opcode, argument, _ in pickletools.genops(program):
            machine.step(opcode.name, argument)
        return machine.result
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{origin} holds a damaged pickle ({error}); fetch it again") from error


class _Machine:
    def __init__(self, origin: str):
        self.origin = origin
        self.result: Any = None
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _LITERALS:
            self.stack.append(_LITERALS[opcode]())
        elif opcode in _ARGUMENTS:
            self.stack.append(argument)
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        elif opcode not in ("PROTO", "FRAME"):
            raise DataError(
                f"refused: {self.origin} uses the pickle opcode {opcode}, which no weight file "
                f"needs; nothing was executed. {_REMEDY}"
            )

    def pop(self) -> Any:
        return self.pop_many(1)[0]

    def pop_many(self, count: int) -> list[Any]:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) - count < floor:
            raise ValueError("its stack runs empty")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def top(self) -> Any:
        return self.stack[-1]

    def discard(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def stop(self, _: Any) -> None:
        self.result = self.pop()

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.top()

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def duplicate(self, _: Any) -> None:
        self.stack.append(self.top())

    def tuple_of(self, count: int) -> None:
        self.stack.append(tuple(self.pop_many(count)))

    def append(self, items: list[Any]) -> None:
        if isinstance(self.top(), list):
            self.top().extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top()
        if isinstance(target, dict):
            target.update(
                (_key(key), value) for key, value in zip(items[::2], items[1::2], strict=True)
            )

    def new_dict(self, _: Any) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self.set_items(items)

    def drop_to_mark_as_inert(self, _: Any) -> None:
        self.pop_to_mark()
        self.stack.append(Inert())

    def name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("a global's name is not text")
        wanted = Name(module, name)
        if module == "torch._utils" and wanted not in _CALLS:
            raise DataError(
                f"{self.origin} holds a tensor that is sparse, quantised, of 8 bits, or without "
                f"values ({name}); save it dense, as float32, float16 or bfloat16"
            )
        if not _is_known(wanted):
            raise DataError(
                f"refused: {self.origin} asks to call {wanted}; nothing was executed. {_REMEDY}"
            )
        self.stack.append(wanted)

    def stack_global(self, _: Any) -> None:
        self.name(*self.pop_many(2))

    def reduce(self, _: Any) -> None:
        self.call(*self.pop_many(2))

    def new_object(self, _: Any) -> None:
        self.call(*self.pop_many(2))

    def new_object_with_keywords(self, _: Any) -> None:
        target, arguments, _keywords = self.pop_many(3)
        self.call(target, arguments)

    def object_from_mark(self, _: Any) -> None:
        target, *arguments = self.pop_to_mark()
        self.call(target, tuple(arguments))

    def instance(self, argument: str) -> None:
        arguments = tuple(self.pop_to_mark())
        self.name(*argument.split(" ", 1))
        self.call(self.pop(), arguments)

    def call(self, target: Any, arguments: Any) -> None:
        if not (isinstance(target, Name) and isinstance(arguments, tuple)):
            raise ValueError("it calls something that is not a global")
        self.stack.append(_CALLS.get(target, _inert)(*arguments))

    def persistent(self, _: Any) -> None:
        # Before PyTorch 1.6 a sixth entry said that a storage is part of another; None is a whole.
        _kind, storage_class, key, _location, size, *parts = self.pop()
        # Only a Name is looked up: hashing a tuple of the file's making could take for ever.
        dtype = _STORAGES.get(storage_class) if isinstance(storage_class, Name) else None
        whole = all(part is None for part in parts)
        if dtype is None or not isinstance(key, str) or not _is_count(size) or not whole:
            raise ValueError("a storage is not described as PyTorch does")
        self.stack.append(Storage(dtype, key, size))


def _inert(*_: Any) -> Inert:
    return Inert()


def _new_dict(*_: Any) -> dict:
    return {}


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> StoredTensor:
    sound = (
        isinstance(storage, Storage)
        and _is_count(offset)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides)
        and all(map(_is_count, (*shape, *strides)))
    )
    if not sound:
        raise ValueError("a tensor is not described as PyTorch does")
    return StoredTensor(storage, offset, shape, strides)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _of_type(rebuild: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor with attributes of its own, which are left."""
    known = isinstance(rebuild, Name) and rebuild in _CALLS
    if not (known and isinstance(arguments, tuple)):
        raise ValueError("a tensor is not described as PyTorch does")
    return _CALLS[rebuild](*arguments)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _key(value: Any) -> Any:
    plain = (str, int, float, bool, bytes, type(None))
    return value if type(value) in plain or isinstance(value, Name) else Inert()


def _is_known(name: Name) -> bool:
    return (
        name in _CALLS
        or name in _STORAGES
        or name in _INERT
        or name.module.split(".", 1)[0] in _INERT_PACKAGES
    )


_REMEDY = (
    "Take these weights as safetensors from a source that you trust, or as a state dict alone, "
    "saved again where the file was made"
)

_LITERALS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": Inert,
}

_ARGUMENTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    )
)

_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    "STOP": _Machine.stop,
    "MARK": _Machine.mark,
    "POP": _Machine.discard,
    "POP_MARK": lambda machine, _: machine.pop_to_mark(),
    "DUP": _Machine.duplicate,
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "GET": _Machine.get,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "DICT": _Machine.new_dict,
    "FROZENSET": _Machine.drop_to_mark_as_inert,
    "APPEND": lambda machine, _: machine.append(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    # The state of an object: attributes that nothing here reads.
    "BUILD": lambda machine, _: machine.pop_many(1),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _Machine.stack_global,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "NEWOBJ_EX": _Machine.new_object_with_keywords,
    "OBJ": _Machine.object_from_mark,
    "INST": _Machine.instance,
    "BINPERSID": _Machine.persistent,
}

_CALLS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _new_dict,
    Name("collections", "defaultdict"): _new_dict,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    Name("torch._tensor", "_rebuild_from_type_v2"): _of_type,
}

_STORAGES = {
    Name("torch", f"{kind}Storage"): np.dtype(dtype)
    for kind, dtype in {
        "Double": np.float64,
        "Float": np.float32,
        "Half": np.float16,
        "BFloat16": ml_dtypes.bfloat16,
        "Long": np.int64,
        "Int": np.int32,
        "Short": np.int16,
        "Char": np.int8,
        "Byte": np.uint8,
        "Bool": np.bool_,
    }.items()
}

_INERT = frozenset(
    Name(module, name)
    for module, names in {
        "torch": (
            *("Size", "device", "float64", "float32", "float16", "bfloat16", "int64", "int32"),
            *("int16", "int8", "uint8", "bool", "complex64", "complex128", "Tensor"),
            *("float8_e4m3fn", "float8_e5m2"),
        ),
        "torch.nn.parameter": ("Parameter", "Buffer"),
        "torch.serialization": ("_get_layout",),
        "collections": ("Counter", "deque"),
        "datetime": ("date", "datetime", "timedelta", "timezone"),
        "decimal": ("Decimal",),
        "uuid": ("UUID",),
        "argparse": ("Namespace",),
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": ("scalar", "_reconstruct"),
        "numpy._core.multiarray": ("scalar", "_reconstruct"),
        "_codecs": ("encode",),
        "typing": ("Any",),
        "pathlib": ("Path", "PosixPath", "PurePosixPath"),
        "builtins": ("dict", "list", "tuple", "set", "frozenset", "str", "bytes", "int", "float"),
        "__builtin__": ("dict", "list", "tuple", "set", "frozenset", "str", "int", "float"),
    }.items()
    for name in names
)

_INERT_PACKAGES = frozenset(("pytorch_lightning", "lightning", "lightning_fabric", "omegaconf"))
