"""Where a run writes: its directory, the compile cache, and the room on the disks."""

import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import jax
from etils import epath

from mre_jax.doctor.finding import RETRY, Finding, failure, ok, warning
from mre_jax.doctor.machine import Machine
from mre_jax.errors import MreError
from mre_jax.io.files import reached

_GB = 10**9
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def check_folder(check: str, place: str) -> Iterator[Finding]:
    """Writes, reads, lists and deletes a small file; of a local folder that is not there, above it.

    Example:
        >>> [finding.level for finding in check_folder("run", "runs/first")]
        ['ok']
    """
    try:
        with reached(place) as path:
            folder = path if "://" in place else epath.Path(_existing(Path(place)))
            _probe(folder / f".doctor-{uuid.uuid4().hex}")
    except MreError as error:
        remedy = "check the name, and that this account may write, read, list and delete there"
        yield failure(check, str(error).partition("; ")[0], remedy, RETRY)
    else:
        yield ok(check, f"{place}: written, read, listed and deleted")


def _probe(file: epath.Path) -> None:
    token = file.name.encode()
    try:
        file.write_bytes(token)
        if file.read_bytes() != token:
            raise OSError("it reads back other bytes than were written")
        if file.name not in {path.name for path in file.parent.iterdir()}:
            raise OSError("what was written is not listed")
    finally:
        file.unlink(missing_ok=True)
    if file.exists():
        raise OSError("what was deleted is still there")


def check_compile_cache(machine: Machine) -> Iterator[Finding]:
    """Compiled programs are code: whoever writes where they are kept runs it in this process."""
    place = compile_cache(machine)
    if "://" in place:
        yield from check_folder("compile cache", place)
        return
    folder = Path(place)
    existing = _existing(folder)
    facts = existing.stat()
    private = existing == folder
    if private and (facts.st_mode & _OTHERS or facts.st_uid not in (machine.user, 0)):
        yield failure(
            "compile cache",
            f"{place} may be written by others, whose code would run here",
            f"chmod go-w {place}, or set JAX_COMPILATION_CACHE_DIR to a folder of your own",
        )
    elif not os.access(existing, os.W_OK):
        remedy = "set JAX_COMPILATION_CACHE_DIR to a folder of your own"
        yield warning("compile cache", f"{place} cannot be written: every start compiles", remedy)
    else:
        yield ok("compile cache", f"{place} is yours alone")


def compile_cache(machine: Machine) -> str:
    """The folder that `keep_programs` takes."""
    if folder := machine.environment.get("JAX_COMPILATION_CACHE_DIR"):
        return folder
    home = machine.environment.get("HOME", str(Path.home()))
    cache = machine.environment.get("XDG_CACHE_HOME", str(Path(home, ".cache")))
    return str(Path(cache, "mre_jax", f"xla-{jax.__version__}"))


def check_disk(place: str, needed: int, what: str, machine: Machine) -> Iterator[Finding]:
    """Whether a local disk has room.

    Args:
        place: a folder that need not exist; a bucket is never full.
        needed: bytes.
        what: takes them, for the message.
    """
    if "://" in place:
        return
    free = machine.free(_existing(Path(place)))
    says = f"{place}: {what} take {needed / _GB:.1f} GB, {free / _GB:.1f} are free"
    if free < needed:
        yield failure("disk", says, "free some, take a larger disk, or give a bucket", RETRY)
    elif free < 1.2 * needed:
        yield warning("disk", says, "free some: it will be nearly full")
    else:
        yield ok("disk", says)


def _existing(path: Path) -> Path:
    """The path, or the nearest one above it that exists."""
    absolute = path.absolute()
    return next(one for one in (absolute, *absolute.parents) if one.exists())
