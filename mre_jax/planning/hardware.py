"""Chips, their hosts, and slices of them by the names that people give them."""

import dataclasses
import difflib
import functools
import importlib.resources
import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from mre_jax.errors import ConfigError
from mre_jax.training import flops


@dataclasses.dataclass(frozen=True)
class Host:
    """A virtual machine with chips.

    Attributes:
        chips: at most, in a slice of several hosts.
        processors: as a cloud counts them, two of a core.
        memory_gb: main memory.
    """

    chips: int
    processors: int
    memory_gb: int


@dataclasses.dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: "v5e", "h100".
        kind: JAX's name.
        memory_gib: what a program may use.
        bandwidth: of its memory, GB/s.
        link: to its neighbours in each direction, GB/s.
        dimensions: of the grid that a slice is.
        most: chips of the largest slice.
        host: its machine.
        like: chip whose compiled programs stand for it; itself, where it has some.
        cores_in_name: what a name such as v5p-8 counts, a chip.
        shapes: of the slices there are; () is any.
    """

    name: str
    kind: str
    memory_gib: float
    bandwidth: float
    link: float
    dimensions: int
    most: int
    host: Host
    like: str
    cores_in_name: int = 1
    shapes: tuple[str, ...] = ()

    @property
    def device_kind(self) -> str:
        """As a device of JAX has it."""
        return self.kind

    @property
    def peak(self) -> float:
        """bfloat16 operations a second."""
        peak = flops.peak(self)
        assert peak is not None  # noqa: S101  hardware.yaml names kinds that are known
        return peak


@dataclasses.dataclass(frozen=True)
class Slice:
    """Chips that work together.

    Attributes:
        name: as it was asked for.
        chip: each of them.
        chips: how many.
        topology: of the grid, as "4x4".

    Example:
        >>> slice_named("v5e:4x4").chips, slice_named("v6e-256").hosts
        (16, 64)
        >>> slice_named("v5p-8").chips  # Google counts cores here
        4
        >>> slice_named("v5e:4x5")
        Traceback (most recent call last):
        mre_jax.errors.ConfigError: v5e:4x5: no such topology; the nearest is v5e:4x4
    """

    name: str
    chip: Chip
    chips: int
    topology: str

    @property
    def hosts(self) -> int:
        """Virtual machines, one process each."""
        return math.ceil(self.chips / self.chip.host.chips)

    @property
    def full_name(self) -> str:
        """As libtpu wants it: "v5e:4x4"."""
        return f"{self.chip.name}:{self.topology}"


@functools.cache
def hardware() -> Mapping[str, Any]:
    """The content of `hardware.yaml`."""
    text = (importlib.resources.files(__package__) / "hardware.yaml").read_text()
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@functools.cache
def chips() -> Mapping[str, Chip]:
    """All that are known, by name."""
    found = {}
    for name, facts in hardware()["chips"].items():
        facts = {"like": name, **facts, "host": Host(**facts["host"])}
        found[name] = Chip(name=name, **{**facts, "shapes": tuple(facts.get("shapes", ()))})
    return found


def slice_named(name: str) -> Slice:
    """A slice by its topology, "v5e:4x4", or its size, "v6e-256", "v5litepod-16", "h100-8".

    Raises:
        ConfigError: for one that there is not, with the nearest.
    """
    match = re.fullmatch(r"(?P<chip>[a-z0-9]+?)(?:(?P<mark>[:-])(?P<size>[\dx]+))?", name.lower())
    chip = chips().get(_ALIASES.get(match["chip"], match["chip"])) if match else None
    if match is None or chip is None:
        raise ConfigError(f"{name}: no such chip; {_nearest(name)}")
    size = match["size"] or "1"
    if match["mark"] == ":":
        numbers = [int(part) for part in size.split("x") if part]
        known = size in chip.shapes or not chip.shapes
        fits = known and len(numbers) == chip.dimensions and 0 < math.prod(numbers) <= chip.most
        if not fits:
            raise ConfigError(f"{name}: no such topology; the nearest is {_like(chip, numbers)}")
        return Slice(name, chip, math.prod(numbers), size)
    count = int(size) // chip.cores_in_name if size.isdecimal() else 0
    shapes = {math.prod(map(int, shape.split("x"))): shape for shape in chip.shapes}
    if not 0 < count <= chip.most or (shapes and count not in shapes):
        raise ConfigError(f"{name}: no such size; the nearest is {_like(chip, [max(count, 1)])}")
    return Slice(name, chip, count, shapes.get(count) or _grid(count, chip.dimensions))


def _like(chip: Chip, numbers: list[int]) -> str:
    """The slice there is of about so many chips."""
    wanted = max(1, math.prod(numbers))
    if not chip.shapes:
        return f"{chip.name}:{_grid(min(wanted, chip.most), chip.dimensions)}"

    def distance(shape: str) -> float:
        return abs(math.log(math.prod(map(int, shape.split("x"))) / wanted))

    return f"{chip.name}:{min(chip.shapes, key=distance)}"


def _nearest(name: str) -> str:
    word = re.split(r"[:-]", name.lower())[0]
    match = difflib.get_close_matches(word, [*chips(), *_ALIASES], n=1, cutoff=0.3)
    known = ", ".join(chips())
    return f"the nearest is {match[0]}; there are {known}" if match else f"there are {known}"


def _grid(count: int, dimensions: int) -> str:
    """A grid of so many chips, as near to a cube as their number allows."""
    sides = []
    for left in range(dimensions, 0, -1):
        side = max(d for d in range(1, round(count ** (1 / left)) + 1) if count % d == 0)
        sides.append(side)
        count //= side
    return "x".join(map(str, sorted(sides)))


_ALIASES = {"v5litepod": "v5e", "v5lite": "v5e", "trillium": "v6e"}
