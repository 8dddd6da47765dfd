"""What compiled programs say of what a traced one takes: fitted factors, and how well they fit.

    memory   temporary = a x copy of the weights + b x what the backward pass keeps
    time     milliseconds = operations / (peak x share)

with `a` and `b` of all programs together, and a share for each chip.
"""

import dataclasses
import functools
import importlib.resources
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mre_jax.errors import ConfigError
from mre_jax.planning.hardware import Chip, slice_named

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A training step that was compiled, of one chip.

    Attributes:
        topology: the slice it is for.
        batch: examples of a chip.
        pixels: side of the pictures.
        remat, fsdp: as in the configuration.
        inputs: "texts" (latents and texts are cached), "latents" or "pictures".
        copy: bytes of the weights that a chip computes with.
        kept: bytes that the backward pass keeps of all its examples, by the traced program.
        arithmetic: operations, those that are done twice with remat included.
        arguments, temporary: GiB, by the compiler.
        milliseconds: by the compiler, without transfers and Pallas kernels.
        origin, date: where the figures are from.
    """

    topology: str
    batch: int
    pixels: int
    remat: bool
    fsdp: int
    inputs: str
    copy: int
    kept: int
    arithmetic: float
    arguments: float
    temporary: float
    milliseconds: float
    origin: str
    date: str

    @property
    def chip(self) -> Chip:
        """The chip it is for."""
        return slice_named(self.topology).chip

    @property
    def share(self) -> float:
        """Share of the peak."""
        return self.arithmetic / self.chip.peak / (self.milliseconds / 1e3)


@dataclasses.dataclass(frozen=True)
class Fit:
    """Factors from compiled programs.

    Attributes:
        copy, kept: factors of the temporary memory.
        shares: share of the peak, by chip.
        kernels: what Pallas kernels take beside, as a share of the time, by chip.
        assumed: shares that are not from programs, by kind of chip.
        memory_error, time_error: largest relative error over the programs, each predicted from
            the others.
    """

    copy: float
    kept: float
    shares: Mapping[str, float]
    kernels: Mapping[str, float]
    assumed: Mapping[str, float]
    memory_error: float
    time_error: float

    def temporary(self, copy: float, kept: float) -> float:
        """Bytes."""
        return self.copy * copy + self.kept * kept

    def seconds(self, chip: Chip, arithmetic: float) -> float:
        """Of so many operations."""
        return arithmetic / chip.peak / self.share(chip)

    def share(self, chip: Chip) -> float:
        """Of the peak: by programs for it, or for the chip that it is like; or assumed."""
        shares = {**self.assumed, **self.shares}
        return shares.get(chip.name, shares[chip.like])

    def kernel_share(self, chip: Chip) -> float:
        """Of the time of the rest."""
        return self.kernels.get(chip.name, self.kernels.get(chip.like, 0.0))

    def origin(self, chip: Chip) -> str:
        """Where a chip's share is from, in words."""
        if chip.name in self.shares:
            return "compiled programs"
        if chip.like in self.shares:
            return f"assumed to be as on {chip.like}"
        return "assumed"


def fitted(programs: Sequence[Compiled] | None = None) -> Fit:
    """The factors, by least squares of relative errors.

    Args:
        programs: None is those that come with the package and the user's own.

    Example:
        >>> fit = fitted()
        >>> fit.memory_error < 0.1 and fit.time_error < 0.25
        True
    """
    programs = compiled_programs() if programs is None else programs
    table = _table()
    a, b = _memory(programs)
    memory, times = [], []
    for number, one in enumerate(programs):
        others = [*programs[:number], *programs[number + 1 :]]
        memory.append(_memory_error(one, _memory(others)))
        if known := _shares(others).get(one.chip.name):
            times.append(abs(one.share / known - 1))
    return Fit(
        copy=a,
        kept=b,
        shares=_shares(programs),
        kernels=table["kernels"],
        assumed=table["assumed_share"],
        memory_error=max(memory),
        time_error=max(times),
    )


def compiled_programs(own: Path | None = None) -> list[Compiled]:
    """Those that come with the package, then the user's own, which `mre plan --compile` keeps."""
    rows = [*_table()["programs"], *_own(own or own_file())]
    return [Compiled(**{**row, "date": str(row["date"])}) for row in rows]


def keep(program: Compiled, own: Path | None = None) -> Path:
    """Adds a program to the user's own; one of the same settings is replaced."""
    path = own or own_file()
    rows = [row for row in _own(path) if not _same(row, program)]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump([*rows, dataclasses.asdict(program)], sort_keys=False)
    path.write_text(text)
    return path


def own_file() -> Path:
    """Where a user's programs are kept."""
    return Path.home() / ".cache" / "mre_jax" / "compiled.yaml"


def _own(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows = yaml.safe_load(path.read_text()) or []
        _ = [Compiled(**row) for row in rows]
    except (yaml.YAMLError, TypeError):
        raise ConfigError(f"{path} is damaged; remove it") from None
    return list(rows)


def _same(row: Mapping[str, Any], program: Compiled) -> bool:
    names = ("topology", "batch", "pixels", "remat", "fsdp", "inputs", "copy")
    return all(row[name] == getattr(program, name) for name in names)


def _memory(programs: Sequence[Compiled]) -> tuple[float, float]:
    measured = np.array([one.temporary * GIB for one in programs])
    features = np.array([[one.copy, one.kept] for one in programs])
    found = np.linalg.lstsq(features / measured[:, None], np.ones(len(programs)), rcond=None)[0]
    return float(found[0]), float(found[1])


def _memory_error(one: Compiled, factors: tuple[float, float]) -> float:
    """Of arguments, which are exact, and temporary memory."""
    predicted = (factors[0] * one.copy + factors[1] * one.kept) / GIB
    return abs(predicted - one.temporary) / (one.arguments + one.temporary)


def _shares(programs: Sequence[Compiled]) -> dict[str, float]:
    """The harmonic mean over the programs for each chip."""
    by_chip: dict[str, list[float]] = {}
    for one in programs:
        by_chip.setdefault(one.chip.name, []).append(1 / one.share)
    return {chip: 1 / float(np.mean(shares)) for chip, shares in by_chip.items()}


@functools.cache
def _table() -> dict[str, Any]:
    text = (importlib.resources.files(__package__) / "compiled.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content
