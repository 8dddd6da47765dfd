"""The TPU slices that can be asked for: their hosts and chips, and what GKE calls them."""

import dataclasses
import difflib
import itertools
import re

from tpu_scripts.errors import SettingsError


@dataclasses.dataclass(frozen=True)
class _Kind:
    """A generation.

    Attributes:
        prefix: of its accelerator types; behind it stands a number.
        counts: what that number counts, for each chip: 2 for cores, else 1.
        largest_host: chips of the largest slice that one host holds.
        runtime: software of its TPU VMs.
        gke: GKE's name of the accelerator.
        machine: GKE's machine type, without the number of chips at its end.
        axes: of a topology.
    """

    prefix: str
    counts: int
    largest_host: int
    runtime: str
    gke: str
    machine: str
    axes: int


_KINDS = (
    _Kind("v4-", 2, 4, "tpu-ubuntu2204-base", "tpu-v4-podslice", "ct4p-hightpu", 3),
    _Kind("v5litepod-", 1, 8, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", "ct5lp-hightpu", 2),
    _Kind("v5p-", 2, 4, "v2-alpha-tpuv5", "tpu-v5p-slice", "ct5p-hightpu", 3),
    _Kind("v6e-", 1, 8, "v2-alpha-tpuv6e", "tpu-v6e-slice", "ct6e-standard", 2),
)
_TOPOLOGIES = {
    2: {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"},
    3: {
        4: "2x2x1",
        8: "2x2x2",
        16: "2x2x4",
        32: "2x4x4",
        64: "4x4x4",
        128: "4x4x8",
        256: "4x8x8",
        512: "8x8x8",
        1024: "8x8x16",
        2048: "8x16x16",
    },
}
_HOST_BOUNDS = {1: "1,1,1", 4: "2,2,1", 8: "2,4,1"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """One slice of a type.

    Attributes:
        accelerator: Cloud TPU's name of it.
        chips: of all its hosts.
        hosts: machines, each of which runs one worker.
        topology: how the chips lie.
        runtime: software of its TPU VMs.
        gke_accelerator, gke_machine: GKE's names.
    """

    accelerator: str
    chips: int
    hosts: int
    topology: str
    runtime: str
    gke_accelerator: str
    gke_machine: str

    @property
    def chips_per_host(self) -> int:
        return self.chips // self.hosts

    @property
    def host_bounds(self) -> str:
        """The chips of one host as libtpu counts them, for a worker that works by itself."""
        return _HOST_BOUNDS[self.chips_per_host]


def known() -> dict[str, Slice]:
    """All slices by name."""
    return {one.accelerator: one for one in itertools.chain(*map(_of_kind, _KINDS))}


def find(accelerator: str) -> Slice:
    """The slice of that name.

    Raises:
        SettingsError: if there is none; it names those that look most like it.

    Example:
        >>> find("v5litepod-16").hosts, find("v5litepod-8").hosts, find("v4-32").topology
        (4, 1, '2x2x4')
    """
    slices = known()
    # v5e-16 and v5e:4x4 are what people say.
    name = re.sub(r"^v5e-", "v5litepod-", accelerator.strip().lower())
    if name in slices:
        return slices[name]
    raise SettingsError(
        f"ACCELERATOR={accelerator}: no such slice; near it are {', '.join(_near(name, slices))}"
    )


def _near(name: str, slices: dict[str, Slice]) -> list[str]:
    """Those of the same generation whose size is nearest, or whose names look alike."""
    kind, _, size = name.rpartition("-")
    same = [one for one in slices if one.startswith(f"{kind}-")]
    if same and size.isdecimal():
        return sorted(same, key=lambda one: abs(int(one.rpartition("-")[2]) - int(size)))[:3]
    return difflib.get_close_matches(name, slices, n=3, cutoff=0.4) or list(slices)[:3]


def _of_kind(kind: _Kind) -> list[Slice]:
    found = []
    for chips, topology in _TOPOLOGIES[kind.axes].items():
        hosts = 1 if chips <= kind.largest_host else chips // 4
        found.append(
            Slice(
                accelerator=f"{kind.prefix}{chips * kind.counts}",
                chips=chips,
                hosts=hosts,
                topology=topology,
                runtime=kind.runtime,
                gke_accelerator=kind.gke,
                gke_machine=f"{kind.machine}-{chips // hosts}t",
            )
        )
    return found
