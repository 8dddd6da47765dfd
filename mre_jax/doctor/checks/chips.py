"""Accelerators: who holds them, how many there are, and whether they hear each other."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mre_jax.doctor.finding import RETRY, Finding, failure, ok, refused
from mre_jax.doctor.machine import Machine
from mre_jax.errors import MreError
from mre_jax.planning.hardware import Slice, chips
from mre_jax.planning.plan import memory_on
from mre_jax.training.config import TrainConfig
from mre_jax.training.parallel import check_batch, make_mesh

LOCK = Path("tmp", "libtpu_lockfile")


def check_holders(machine: Machine) -> Iterator[Finding]:
    """Other processes that have the chips open; to be asked before JAX takes them itself.

    Example:
        >>> import tempfile
        >>> [finding.says for finding in check_holders(Machine(Path(tempfile.mkdtemp())))]
        ['no accelerator: nothing to hold']
    """
    chips = machine.chips()
    held = [*_holders(machine, {str(path) for path in chips}), *_locked(machine)]
    free = f"{len(chips)} chips, held by nobody" if chips else "no accelerator: nothing to hold"
    yield from held or [ok("chips", free)]


def _holders(machine: Machine, chips: set[str]) -> Iterator[Finding]:
    for process in sorted((machine.root / "proc").glob("[0-9]*")) if chips else ():
        if int(process.name) == machine.pid:
            continue
        open_chips = {_target(link, machine.root) for link in _files(process)} & chips
        if open_chips:
            names = ", ".join(sorted(open_chips))
            yield failure(
                "chips",
                f"{names} held by process {process.name} ({_command(process)})",
                f"stop it: kill {process.name}",
                RETRY,
            )


def _files(process: Path) -> list[Path]:
    """Its open files; none where this user may not look."""
    try:
        return list((process / "fd").iterdir())
    except OSError:
        return []


def _target(link: Path, root: Path) -> str:
    """Where a link of /proc leads, below the root."""
    try:
        target = str(link.readlink())
    except OSError:
        return ""
    return target if target.startswith(str(root)) else str(root / target.lstrip("/"))


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "unknown"
    return b" ".join(words).decode(errors="replace").strip()[:60] or "unknown"


def _locked(machine: Machine) -> Iterator[Finding]:
    """libtpu's own lock: of one process at a time, and left behind by another user's."""
    path = machine.root / LOCK
    if not path.exists():
        return
    fcntl: Any = importlib.import_module("fcntl")  # where there are TPUs, it is
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        remedy = f"stop the process that holds it: fuser {path}"
        yield failure("chips", f"{path} is locked: another process has the TPU", remedy, RETRY)
    except PermissionError:
        remedy = f"stop it, or remove what it left: sudo rm {path}"
        yield failure("chips", f"{path} is another user's", remedy, RETRY)


def check_devices(
    config: TrainConfig | None, asked: int | None, chips: int = 0, workers: int | None = None
) -> Iterator[Finding]:
    """Whether JAX has as many devices as asked for, and all of them add up ones.

    All processes call this together.

    Args:
        config: the run, whose mesh and batch must fit the devices.
        asked: devices of all workers together; None asks for none in particular.
        chips: device files of accelerators on this machine.
        workers: processes that there should be; None asks for none in particular.
    """
    try:
        devices = jax.devices()
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        yield failure("devices", f"JAX finds none: {reason}", "see chips and environment", RETRY)
        return
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    says = f"{len(devices)} x {kinds} on {jax.process_count()} workers"
    if chips and devices[0].platform == "cpu":
        remedy = "install JAX for them: pip install 'mre_jax[tpu]', or [cuda]"
        yield failure("devices", f"{says}, and {chips} accelerators are not used", remedy)
    elif workers is not None and jax.process_count() != workers:
        remedy = "start it on every worker of the slice, or correct --workers"
        yield failure("devices", f"{says}, not the {workers} asked for", remedy, RETRY)
    elif asked is not None and len(devices) != asked:
        remedy = "start it on every worker of the slice, or correct --devices"
        yield failure("devices", f"{says}, not the {asked} asked for", remedy)
    else:
        yield ok("devices", says)
    yield from _sum(len(devices))
    if config is not None:
        yield from _mesh(config)


def _sum(count: int) -> Iterator[Finding]:
    mesh = Mesh(mesh_utils.create_device_mesh((count,), allow_split_physical_axes=True), ("all",))
    parts = NamedSharding(mesh, PartitionSpec("all"))
    ones = jax.make_array_from_callback((count,), parts, lambda place: np.ones(1, np.float32))
    whole = NamedSharding(mesh, PartitionSpec())
    total = float(jax.jit(jnp.sum, out_shardings=whole)(ones))
    if total == count:
        yield ok("all-reduce", f"the sum of a one on each device is {count}")
    else:
        remedy = "a chip or a link is broken: delete the slice and create another"
        yield failure("all-reduce", f"a one on each of {count} adds up to {total:g}", remedy, RETRY)


def _mesh(config: TrainConfig) -> Iterator[Finding]:
    try:
        mesh = make_mesh(config.mesh)
        check_batch(config, mesh, jax.process_count())
    except MreError as error:
        remedy = "set mesh.data, mesh.fsdp or data.batch_size to divide the devices"
        says, _, given = str(error).partition("; ")
        yield failure("mesh", says, given or remedy, error.exit_code)
    else:
        yield ok("mesh", f"data {mesh.shape['data']} x fsdp {mesh.shape['fsdp']}")


def check_fit(config: TrainConfig, inputs: str, kind: str, count: int) -> Iterator[Finding]:
    """Whether a step fits the devices, by the estimate of `mre plan`; of chips that it knows.

    Args:
        inputs: what a step reads, one of `planning.memory.INPUTS`.
        kind: JAX's name of the devices.
        count: all of them.

    Example:
        >>> from mre_jax import load_config
        >>> config = load_config("configs/reward_ip2p.yaml")
        >>> list(check_fit(config, "texts", "cpu", 8))
        []
    """
    names = (chip for chip in chips().values() if _is(kind, chip.kind))
    chip = next(names, None)
    if chip is None:
        return
    where = Slice(f"{count} x {kind}", chip, count, "")
    try:
        found = memory_on(config, where, inputs)
    except MreError as error:
        yield refused("memory", error)
    else:
        says = f"about {found.needed:.1f} GiB of {found.available:g} a chip"
        yield ok("memory", f"{says}; at most {found.most_examples} examples at once")


def _is(kind: str, name: str) -> bool:
    """Whether JAX's name of a device, as "TPU v5 lite" or "NVIDIA H100 80GB HBM3", is a chip's."""
    plain = kind.removeprefix("NVIDIA ").replace(" lite", "e")
    return plain.startswith(name) or (plain == "TPU v5" and name == "TPU v5p")
