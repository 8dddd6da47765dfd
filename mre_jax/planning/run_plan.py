"""What a plan of a run says, as values, JSON and text."""

import dataclasses
import json
from typing import Any

from mre_jax.io.columns import columns
from mre_jax.planning.calibration import Fit
from mre_jax.planning.hardware import Slice
from mre_jax.planning.judging import JudgePlan
from mre_jax.planning.memory import Memory
from mre_jax.planning.prices import Prices
from mre_jax.planning.storage import GB, DataSet, Saves
from mre_jax.planning.timing import StepTime
from mre_jax.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class SlicePlan:
    """The run on one slice.

    Attributes:
        where: the slice.
        batch: examples of a step.
        memory: of a chip.
        time: of a step.
        hours: of a start and all steps, without preemptions.
        spot_hours: with what preemptions and saves lose.
        usd, spot_usd: cost of these; None without a price.
        saves: of the checkpoints.
        cores: that a host's loader needs.
        epochs: over the training set; None if its size is not known.
    """

    where: Slice
    batch: int
    memory: Memory
    time: StepTime
    hours: float
    spot_hours: float
    usd: float | None
    spot_usd: float | None
    saves: Saves
    cores: float
    epochs: float | None

    @property
    def host_cores(self) -> float:
        """That such a host has."""
        return self.where.chip.host.processors / 2


@dataclasses.dataclass(frozen=True)
class Plan:
    """The run on every slice that was asked for.

    Attributes:
        config: the run.
        inputs: what a step reads, one of `memory.INPUTS`.
        data: its sets.
        plans: by slice, in the order asked for.
        refused: slices on which it cannot run, and why.
        notes: what was assumed.
        disk: bytes of the sets, of a cache beside them, and of checkpoints.
        judging: what rewards for the examples cost, if a judge was named.
    """

    config: TrainConfig
    inputs: str
    data: DataSet
    plans: tuple[SlicePlan, ...]
    refused: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    disk: tuple[int, int, int]
    prices: Prices
    fit: Fit
    judging: JudgePlan | None = None

    @property
    def cheapest(self) -> SlicePlan | None:
        """Of those that fit."""
        priced = [one for one in self.plans if one.memory.fits and one.usd is not None]
        return min(priced, key=lambda one: one.usd or 0.0, default=None)

    @property
    def fastest(self) -> SlicePlan | None:
        """Likewise."""
        fitting = [one for one in self.plans if one.memory.fits]
        return min(fitting, key=lambda one: one.hours, default=None)

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        content: dict[str, Any] = {
            "name": self.config.name,
            "inputs": self.inputs,
            "plans": [
                dataclasses.asdict(one)
                | {"step_seconds": one.time.step, "fits": one.memory.fits}
                | {"needed_gib": one.memory.needed}
                for one in self.plans
            ],
            "refused": dict(self.refused),
            "cheapest": self.cheapest and self.cheapest.where.name,
            "fastest": self.fastest and self.fastest.where.name,
            "disk_bytes": dict(zip(("data", "cache", "checkpoints"), self.disk, strict=True)),
            "memory_error": self.fit.memory_error,
            "time_error": self.fit.time_error,
            "judging": self.judging and dataclasses.asdict(self.judging),
            "prices_as_of": self.prices.as_of,
            "notes": self.notes,
        }
        return json.dumps(content, indent=1)

    def __str__(self) -> str:
        if len(self.plans) == 1 and not self.refused:
            parts = [_detail(self, self.plans[0])]
        else:
            parts = [_table(self)]
        judging = [str(self.judging)] if self.judging is not None else []
        return "\n\n".join([*parts, _disks(self), *judging, _notes(self)])


def _detail(whole: Plan, one: SlicePlan) -> str:
    memory, time, where = one.memory, one.time, one.where
    rows = [
        ("a chip, GiB", "", ""),
        ("  parameters", f"{memory.parameters:.2f}", "float32, split over the chips"),
        ("  moments", f"{memory.moments:.2f}", "of AdamW"),
        ("  moving average", f"{memory.average:.2f}", ""),
        ("  frozen networks", f"{memory.frozen:.2f}", f"inputs are {whole.inputs}"),
        ("  inputs", f"{memory.inputs:.2f}", f"{memory.examples} examples at once"),
        ("  weights", f"{memory.weights:.2f}", "the copy that computes"),
        ("  activations", f"{memory.activations:.2f}", ""),
        ("  needed", f"{memory.needed:.2f}", f"of {memory.available:g}: fits; at most "
         f"{memory.most_examples} examples at once"),
        ("a step, ms", "", ""),
        ("  compute", f"{time.compute * 1e3:.1f}", ""),
        ("  attention kernels", f"{time.kernels * 1e3:.1f}", ""),
        ("  transfers", f"{time.transfers * 1e3:.1f}", "as if nothing went on beside"),
        ("  together", f"{time.step * 1e3:.1f}", f"{time.images:,.0f} images/s, "
         f"{time.peak_share:.0%} of the peak"),
        ("the run", "", ""),
        ("  steps", f"{whole.config.steps:,}", "" if one.epochs is None else
         f"{one.epochs:.2f} epochs"),
        ("  hours", f"{one.hours:.1f}", f"{_usd(one.usd)} on demand"),
        ("  hours on spot", f"{one.spot_hours:.1f}", f"{_usd(one.spot_usd)}, saves and "
         "preemptions included"),
        ("  a save, s", f"{one.saves.seconds:.0f}", f"{one.saves.bytes / GB:.1f} GB from "
         f"{where.hosts} hosts"),
        ("  save every, s", f"{one.saves.interval:.0f}", f"checkpoint.every="
         f"{max(1, round(one.saves.interval / time.step))} loses least (Young, Daly): "
         f"{one.saves.lost:.1%}"),
        ("  loader cores", f"{one.cores:.2f}", f"of a host's {one.host_cores:.0f}"
         + ("" if one.cores < one.host_cores else ": the chips would wait")),
    ]  # fmt: skip
    heading = (
        f"{whole.config.name} on {where.name}: {where.chips} chips, {where.hosts} hosts, batch "
        f"{one.batch}"
    )
    return f"{heading}\n{columns(rows, right=[1])}"


def _table(whole: Plan) -> str:
    names = ("slice", "chips", "GiB", "most", "ms", "images/s", "peak", "hours", "USD", "spot", "")
    rows = [names]
    for one in whole.plans:
        marks = [word for word, best in (("cheapest", whole.cheapest), ("fastest", whole.fastest))
                 if best is one]  # fmt: skip
        rows.append(
            (
                one.where.name,
                str(one.where.chips),
                f"{one.memory.needed:.1f}/{one.memory.available:g}",
                str(one.memory.most_examples),
                f"{one.time.step * 1e3:.1f}",
                f"{one.time.images:,.0f}",
                f"{one.time.peak_share:.0%}",
                f"{one.hours:.2f}",
                _usd(one.usd).removesuffix(" USD"),
                _usd(one.spot_usd).removesuffix(" USD"),
                ", ".join(marks),
            )
        )
    heading = f"{whole.config.name}: {whole.config.steps:,} steps of {whole.config.data.batch_size}"
    table = columns(rows, right=range(1, 10)) if whole.plans else "no slice that it fits"
    return "\n".join([heading, table, *(f"{name}: {why}" for name, why in whole.refused)])


def _disks(whole: Plan) -> str:
    data, cache, checkpoints = whole.disk
    month = (data + cache + checkpoints) / GB * whole.prices.storage_gb_month
    parts = [f"checkpoints {checkpoints / GB:.1f}"]
    if data:
        parts.insert(0, f"data {data / GB:.1f}" + (f", its cache {cache / GB:.1f}" * bool(cache)))
    text = ", ".join(parts)
    per_host = _of_each_host(whole) if data else ""
    return f"GB in the bucket: {text}; {month:.2f} USD a month{per_host}"


def _of_each_host(whole: Plan) -> str:
    """What it holds of the sets, or reads of them while it trains."""
    data = whole.config.data
    size = sum(whole.disk[:2])
    if not data.requests or any("://" not in path for path in data.paths):
        return f"; of them {size / GB:.1f} on the disk of each host"
    if not whole.plans or not whole.data.examples:
        return ""
    examples = max(one.time.images / one.where.hosts for one in whole.plans)
    return f"; a host reads up to {examples * size / whole.data.examples / 1e6:.0f} MB/s of them"


def _notes(whole: Plan) -> str:
    return "\n".join(
        f"- {note}" for note in (*whole.notes, f"prices of {whole.prices.as_of}, see --prices")
    )


def _usd(usd: float | None) -> str:
    return "no price" if usd is None else f"{usd:,.2f} USD"
