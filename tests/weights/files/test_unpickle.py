"""A pickle from a stranger gives plain values or an error of one line, and never does anything."""

import argparse
import codecs
import collections
import contextlib
import datetime
import io
import os
import pickle
import pickletools
import random
import sys
import time
import tracemalloc
import uuid

import pytest

from mre_jax.errors import DataError
from mre_jax.weights.files import unpickle as module
from mre_jax.weights.files.unpickle import Inert, Storage, StoredTensor, unpickle

HARMLESS = ("array.__new__", "object.__getattr__", "sys._getframe", "gc.", "marshal.loads")
seen: list[str] = []
watching = False


def watch(event, arguments):
    if watching and not event.startswith(HARMLESS):
        seen.append(f"{event} {arguments}")


sys.addaudithook(watch)
for codec in ("raw_unicode_escape", "latin-1", "ascii"):
    codecs.lookup(codec)  # Python imports it when it is first asked for


@contextlib.contextmanager
def nothing_happens():
    """No import, file, process, compilation or look-up of a global, as Python itself sees them."""
    global watching
    seen.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert not seen


def read(program: bytes):
    with nothing_happens():
        return unpickle(io.BytesIO(program), "file")


def outcome(program: bytes):
    """The plain value, or the error, which is of one line."""
    try:
        value = read(program)
    except DataError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        return error
    check_plain(value)
    return value


def check_plain(value):
    """Of the types that weights are described by, however deep."""
    left, met = [value], set()
    while left:
        value = left.pop()
        if id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, type):
            assert issubclass(value, Inert)
        elif isinstance(value, dict):
            assert all(type(key) in (str, int) for key in value)
            left += value.values()
        elif type(value) in (list, tuple):
            left += value
        else:
            plain = (int, float, bool, str, bytes, bytearray, type(None), StoredTensor, Storage)
            assert type(value) in plain or isinstance(value, Inert)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back_as_themselves(protocol):
    shared = ["a", 1.5]
    value = {"list": shared, "again": shared, "tuple": (1, None, (True, 2**100)), 7: b"\xff\x00"}
    found = read(pickle.dumps({**value, (1, 2): "left out", 2**40: "too"}, protocol))
    assert isinstance(found, dict) and found["list"] is found["again"]
    # Python 2 had no bytes: earlier protocols spell them as a call.
    assert isinstance(found.pop(7), bytes if protocol > 2 else Inert)
    value.pop(7)
    assert found == value


def test_sets_are_lists_and_other_objects_nothing():
    found = read(pickle.dumps({"set": {1}, "frozen": frozenset("a"), "empty": set()}, 4))
    assert found == {"set": [1], "frozen": ["a"], "empty": []}
    beside = {
        "namespace": argparse.Namespace(a=1),
        "time": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "counter": collections.Counter("aab"),
        "deque": collections.deque([1, 2], maxlen=3),
        "id": uuid.UUID(int=1),
    }
    for protocol in (2, 4, 5):
        found = read(pickle.dumps(beside, protocol))
        assert all(isinstance(value, Inert) for value in found.values())
    made = collections.OrderedDict(a=1)
    made.note = "an attribute"
    assert read(pickle.dumps(made, 2)) == {"a": 1}
    assert read(pickle.dumps(collections.defaultdict(list, a=[1]), 2)) == {"a": [1]}


STACKS = (
    b"",
    b"N",
    b"(",
    b"((NN",
    b"]",
    b"}Va\n",
    b"}Va\nN",
    b"}(Va\nN",
    b"(Va\nN",
    b"](NN",
    b"\x8f(NN",
    b"V__builtin__\nVeval\n",
    b"Vos\nVsystem\n",
    b"cargparse\nNamespace\n",
    b"cargparse\nNamespace\n)",
    b"cargparse\nNamespace\n)}",
    b"cargparse\nNamespace\n)\x81}",
    b"cargparse\nNamespace\n)\x81N}Vx\nNs\x86",
    b"cargparse\nNamespace\n}Vx\nNs",
    b"ccollections\nOrderedDict\n)R}",
    b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNt",
    b"ctorch._utils\n_rebuild_tensor_v2\nN}Vfunction\nNs\x86",
    b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\nt",
    b"(cargparse\nNamespace\nN",
    b"(Vx\n",
    b"Vx\n)",
    b")",
    b"Vx\n",
)
ARGUMENTS = {
    "uint1": (b"\x00", b"\xff"),
    "uint2": (b"\x00\x00", b"\xff\xff"),
    "int4": (b"\x00" * 4, b"\xff" * 4),
    "uint4": (b"\x00" * 4, b"\xff" * 4),
    "uint8": (b"\x00" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f"),
    "float8": (b"\x7f\xf8" + b"\x00" * 6,),
    "stringnl": (b"'os'\n", b"os\n", b"'\\x'\n", b"'\xff'\n"),
    "stringnl_noescape": (b"os.system\n", b"\xff\n"),
    "stringnl_noescape_pair": (
        b"os\nsystem\n",
        b"torch\nTensor\n",
        b"\xff\n\n",
        b"\x1b[2J\n\x07\n",
    ),
    "decimalnl_short": (b"1\n", b"00\n", b"01\n", b"-1\n", b"9" * 5000 + b"\n", b"x\n"),
    "decimalnl_long": (b"1L\n", b"-1\n", b"9" * 5000 + b"L\n", b"\n"),
    "floatnl": (b"1.5\n", b"nan\n", b"x\n"),
    "unicodestringnl": (b"os\n", b"\\ud800\n", b"\\uzzzz\n"),
    "string1": (b"\x02os", b"\xff"),
    "string4": (b"\x02\x00\x00\x00os", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"),
    "bytes1": (b"\x02os", b"\xff"),
    "bytes4": (b"\x02\x00\x00\x00os", b"\xff\xff\xff\xff"),
    "bytes8": (b"\x02" + b"\x00" * 7 + b"os", b"\xff" * 7 + b"\x7f", b"\xff" * 8),
    "bytearray8": (b"\x02" + b"\x00" * 7 + b"os", b"\xff" * 7 + b"\x7f", b"\xff" * 8),
    "unicodestring1": (b"\x02os", b"\x01\xff", b"\xff"),
    "unicodestring4": (b"\x02\x00\x00\x00os", b"\xff\xff\xff\xff"),
    "unicodestring8": (b"\x02" + b"\x00" * 7 + b"os", b"\xff" * 7 + b"\x7f", b"\xff" * 8),
    "long1": (b"\x01\x05", b"\xff"),
    "long4": (b"\x01\x00\x00\x00\x05", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_every_opcode_in_every_place_is_plain_or_refused(opcode):
    for argument in ARGUMENTS[opcode.arg.name] if opcode.arg else (b"",):
        for stack in STACKS:
            for tail in (b".", b"b.", b")R.", b")\x81.", b"Q."):
                outcome(stack + opcode.code.encode("latin-1") + argument + tail)


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"N\x98.", "READONLY_BUFFER"),
        (b"P1\n.", "PERSID"),
    ],
)
def test_opcodes_that_reach_outside_the_file_are_refused(program, name):
    with pytest.raises(DataError, match=f"refused: file uses the pickle opcode {name}, which"):
        read(program)


CALLS = {
    "REDUCE": b"c%s\n%s\nVx\n\x85R.",
    "STACK_GLOBAL": b"V%s\nV%s\n\x93Vx\n\x85R.",
    "NEWOBJ": b"c%s\n%s\nVx\n\x85\x81.",
    "NEWOBJ_EX": b"c%s\n%s\nVx\n\x85}\x92.",
    "OBJ": b"(c%s\n%s\nVx\no.",
    "INST": b"(Vx\ni%s\n%s\n.",
    "never called": b"c%s\n%s\n.",
    "thrown away": b"c%s\n%s\n0N.",
    "a key": b"}c%s\n%s\nNs.",
    "a state": b"cargparse\nNamespace\n)\x81c%s\n%s\nb.",
    "a persistent id": b"(Vstorage\nc%s\n%s\nV0\nVcpu\nI4\ntQ.",
    "in a type's arguments": b"ctorch._tensor\n_rebuild_from_type_v2\n(c%s\n%s\nN)NtR.",
}
GADGETS = (
    *("os system", "posix system", "nt system", "subprocess Popen", "subprocess check_output"),
    *("builtins eval", "builtins exec", "builtins getattr", "builtins open", "builtins __import__"),
    *("builtins type", "builtins object", "builtins bytearray", "builtins map", "builtins compile"),
    *("__builtin__ eval", "__builtin__ apply", "__main__ anything", "builtins list.append"),
    *("torch load", "torch.hub load", "torch.storage _load_from_bytes", "torch._C _jit_init"),
    *("torch.jit load", "torch.serialization load", "torch.package PackageImporter"),
    *("torch.utils.cpp_extension load", "torch FloatStorage.from_file", "torch.nn Module"),
    *("numpy load", "numpy fromfile", "numpy.f2py.crackfortran getlincoef", "numpy memmap"),
    *("pickle loads", "_pickle loads", "_pickle Unpickler", "copyreg _reconstructor"),
    *("copy_reg _reconstructor", "copyreg add_extension", "functools partial", "operator call"),
    *("operator attrgetter", "operator methodcaller", "importlib import_module", "runpy run_path"),
    *("collections OrderedDict.__reduce__", "collections namedtuple", "types FunctionType"),
    *("types CodeType", "ctypes CDLL", "shutil rmtree", "pathlib Path.unlink", "webbrowser open"),
    *("pip main", "pty spawn", "socket socket", "asyncio run", "timeit timeit", "pdb run"),
    *("pytorch_lightningx run", "lightning_ x", " os system", "pytorch_lightning/os system"),
    *("mre_jax.weights.files.unpickle Inert", "codecs encode", "_codecs decode", "_codecs lookup"),
)


@pytest.mark.parametrize("call", CALLS)
def test_a_name_that_no_weight_file_needs_is_refused_however_it_is_called(call):
    for gadget in GADGETS:
        module_name, _, name = gadget.rpartition(" ")
        program = CALLS[call] % (module_name.encode(), name.encode())
        with pytest.raises(DataError, match="refused: file asks to call") as error:
            read(program)
        assert f"{module_name}.{name}; nothing was executed" in str(error.value)


@pytest.mark.parametrize("call", CALLS)
def test_a_name_that_is_known_is_a_stand_in_however_it_is_called(call, monkeypatch, tmp_path):
    (tmp_path / "pytorch_lightning.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    before = dict(vars(Inert))
    for name in (*module._STAND_INS, "pytorch_lightning.anything.Run"):
        module_name, _, leaf = name.rpartition(".")
        outcome(CALLS[call] % (module_name.encode(), leaf.encode()))
    assert dict(vars(Inert)) == before and not Inert.__dict__.get("x")


def test_what_a_name_stands_for_is_this_modules_own():
    for stand_in in module._STAND_INS.values():
        assert isinstance(stand_in, type) and issubclass(stand_in, Inert)
        assert stand_in.__module__ == module.__name__


@pytest.mark.parametrize(
    "state", [b"}V__new__\nNs", b"N}V__new__\nNs\x86", b"}Vdtype\nVx\nsN\x86", b"Vx\n", b"N"]
)
def test_a_file_cannot_change_what_a_name_stands_for(state):
    for name in module._STAND_INS:
        stand_in = module._STAND_INS[name]
        before = dict(vars(stand_in))
        module_name, _, leaf = name.rpartition(".")
        for made in (b"", b")R", b")\x81"):
            start = f"c{module_name}\n{leaf}\n".encode() + made
            for change in (state + b"b.", b"Vx\nNs.", b"Na.", b"(NNe.", b"(NN\x90."):
                outcome(start + change)
        assert dict(vars(stand_in)) == before


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"}",
        b"0.",
        b"t.",
        b"h\x05.",
        b"}R.",
        b"Vx\n)R.",
        b"}]s.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x07N.",
        b"NQ]Q(NtQ.",
        b"(NNNd.",
        b"ccollections\nOrderedDict\n}R.",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI-4\ntQ.",
        b"(Vstorage\ncargparse\nNamespace\nV0\nVcpu\nI4\ntQ.",
        b"(Vstorage\nctorch\nFloatStorage\nI0\nVcpu\nI4\ntQ.",
        b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\nVpart\ntQ.",
    ],
)
def test_a_broken_program_is_an_error_of_one_line(program):
    with pytest.raises(DataError, match="file holds a damaged pickle"):
        read(program)


@pytest.mark.parametrize("rebuild", ["cbuiltins\neval", "V1", "ctorch\nTensor", "N"])
def test_an_attribute_carrier_calls_nothing_but_a_tensor(rebuild):
    text = rebuild if rebuild == "N" else f"{rebuild}\n"
    program = f"ctorch._tensor\n_rebuild_from_type_v2\n({text}ctorch\nTensor\n)}}tR.".encode()
    with pytest.raises(DataError, match=r"refused: .*\.eval;|damaged pickle"):
        read(program)


NESTED = b")" + b"q\x00h\x00\x86" * 200
"""A tuple whose hash takes 2^200 steps."""
COLLIDING = b"".join(
    b"\x8a\x0a" + (1 + number * sys.hash_info.modulus).to_bytes(10, "little") + b"N"
    for number in range(20_000)
)
REBUILD = b"ctorch._tensor\n_rebuild_from_type_v2\n"


@pytest.mark.parametrize(
    "program",
    [
        b"}" + NESTED + b"Ns.",
        b"}(" + NESTED + b"Nu.",
        b"(" + NESTED + b"Nd.",
        b"\x8f(" + NESTED + b"\x90.",
        b"(" + NESTED + b"\x91.",
        b"}" + b")" + b"\x85" * 200_000 + b"Ns.",
        b"(" + b")" + b"\x85" * 100_000 + b"\x91.",
        b"(Vstorage\n" + NESTED + b"V0\nVcpu\nI4\ntQ.",
        b"}(" + COLLIDING + b"u.",
        b"(" + COLLIDING + b"d.",
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"}" + b"Va\n}" * 20_000 + b"s" * 20_000 + b".",
        b"]q\x00" + b"(h\x00h\x00e" * 10_000 + b".",
        REBUILD * 5_000 + b"N" + b"N)N\x87" * 5_000 + b".",
        (REBUILD + b"(") * 3_000 + b"N" + b"N)NtR" * 3_000 + b".",
        b"N" + b"2" * 50_000 + b".",
        b"Nr\xff\xff\xff\xff.",
        b"Np4294967295\n.",
        b"Np-1\n.",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
        b"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.",
        b"\x8b\xff\xff\xff\x7fN.",
        b"B\xff\xff\xff\xffN.",
        b"\x8e\x00\x00\x00\x00\x01\x00\x00\x00N.",
        b"\x8d\x00\x00\x00\x00\x01\x00\x00\x00N.",
        b"I" + b"9" * 200_000 + b"\n.",
        b"S'" + b"a" * 200_000 + b"\n.",
        b"c" + b"a" * 200_000 + b"\nb\n.",
        b"c\x1b[2J\rx\nb\n.",
    ],
    ids=lambda program: f"{program[:12]!r} {len(program)}",
)
def test_a_bomb_neither_takes_time_nor_memory_nor_the_process(program):
    tracemalloc.start()
    try:
        start = time.process_time()
        outcome(program)
        assert time.process_time() - start < 20
        assert tracemalloc.get_traced_memory()[1] < 2**27
    finally:
        tracemalloc.stop()


def test_a_program_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr(module, "_OPCODE_LIMIT", 100)
    assert read(b"]" + b"Na" * 49 + b".") == [None] * 49
    with pytest.raises(DataError, match="goes on without end"):
        read(b"]" + b"Na" * 50 + b".")


def test_a_tensor_has_a_name_that_can_be_shown_and_axes_that_can_be_counted():
    def program(name="x", axes=1, count="1"):
        storage = "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI4\ntQ"
        shape = "(" + f"I{count}\n" * axes + "t"
        tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n{shape}{shape}I00\n}}tR"
        return f"}}V{name}\n{tensor}s.".encode()

    assert set(read(program())) == {"x"}
    for wrong in ({"name": "x\\u000a"}, {"name": "x" * 501}, {"axes": 33}, {"count": 2**63}):
        with pytest.raises(DataError, match="damaged pickle"):
            read(program(**wrong))


def test_damage_of_honest_pickles_is_plain_or_an_error():
    """Bits, bytes and pieces that are flipped, lost, inserted or swapped for opcodes."""
    shared = ["cpu", (1, 2)]
    value = {
        "state_dict": collections.OrderedDict({f"layer.{i}": shared for i in range(5)}),
        "args": argparse.Namespace(a={1, 2}, b=frozenset("a")),
        "seen": collections.Counter("ab"),
        "number": 2**70,
    }
    rng = random.Random(0)  # noqa: S311
    codes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    for protocol in range(2, 6):
        whole = pickle.dumps(value, protocol)
        for _ in range(600):
            content = bytearray(whole)
            for _ in range(rng.randint(1, 4)):
                place = rng.randrange(len(content))
                match rng.randrange(5):
                    case 0:
                        content[place] ^= 1 << rng.randrange(8)
                    case 1:
                        del content[place : place + rng.randint(1, 9)]
                    case 2:
                        content[place:place] = rng.choice(codes)
                    case 3:
                        content[place : place + 1] = rng.choice(codes)
                    case 4:
                        content[place:place] = content[: rng.randrange(len(content))]
                if not content:
                    break
            outcome(bytes(content))


def test_opcodes_at_random_are_plain_or_an_error():
    rng = random.Random(1)  # noqa: S311
    for _ in range(2000):
        program = b""
        for _ in range(rng.randint(1, 30)):
            opcode = rng.choice(pickletools.opcodes)
            program += opcode.code.encode("latin-1")
            program += rng.choice(ARGUMENTS[opcode.arg.name]) if opcode.arg else b""
            program += rng.choice(STACKS) if rng.random() < 0.2 else b""
        outcome(program + b".")


def test_the_watch_of_these_tests_sees_what_must_not_happen(tmp_path):
    class Gadget:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    with pytest.raises(AssertionError, match=r"pickle\.find_class|os\.mkdir"), nothing_happens():
        pickle.loads(pickle.dumps(Gadget()))  # noqa: S301
    assert (tmp_path / "ran").exists()
