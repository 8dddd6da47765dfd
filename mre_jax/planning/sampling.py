"""Edits on paper: how long a list of them takes on some slices, and what it costs."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from etils import epath

from mre_jax.errors import ConfigError, DataError
from mre_jax.io.columns import columns
from mre_jax.planning.calibration import Fit, fitted
from mre_jax.planning.hardware import Slice, slice_named
from mre_jax.planning.prices import load_prices
from mre_jax.planning.spec import EditsSpec, PlanSpec
from mre_jax.planning.storage import start_seconds
from mre_jax.planning.work import EditWork, edit_work, sizes_of
from mre_jax.reward.config import RewardConfig
from mre_jax.training.config import ModelConfig

BRANCHES = 3
"""Guidance by text and by picture: the UNet sees every edit so often."""


@dataclasses.dataclass(frozen=True)
class EditsPlan:
    """A list of edits on one slice.

    Attributes:
        where: the slice.
        seconds: of one edit on one chip.
        hours: of all, a start included.
        usd, spot_usd: what they cost; None without a price.
        weights: GiB of the model on a chip.
    """

    where: Slice
    seconds: float
    hours: float
    usd: float | None
    spot_usd: float | None
    weights: float


@dataclasses.dataclass(frozen=True)
class EditsPlans:
    """On every slice that was asked for.

    Attributes:
        items: number of edits.
        plans: by slice.
        notes: what was assumed.
    """

    items: int
    plans: tuple[EditsPlan, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """Everything, as one JSON object."""
        content: dict[str, Any] = dataclasses.asdict(self)
        return json.dumps(content, indent=1)

    def __str__(self) -> str:
        fastest = min(self.plans, key=lambda one: one.hours)
        priced = [one for one in self.plans if one.usd is not None]
        cheapest = min(priced, key=lambda one: one.usd or 0.0, default=None)
        rows = [("slice", "chips", "s an edit", "edits/s", "hours", "USD", "spot", "")]
        for one in self.plans:
            marks = [word for word, best in (("cheapest", cheapest), ("fastest", fastest))
                     if one is best]  # fmt: skip
            rows.append(
                (
                    one.where.name,
                    str(one.where.chips),
                    f"{one.seconds:.2f}",
                    f"{one.where.chips / one.seconds:.1f}",
                    f"{one.hours:.2f}",
                    "-" if one.usd is None else f"{one.usd:.2f}",
                    "-" if one.spot_usd is None else f"{one.spot_usd:.2f}",
                    ", ".join(marks),
                )
            )
        notes = "\n".join(f"- {note}" for note in self.notes)
        return f"{self.items:,} edits\n{columns(rows, right=range(1, 7))}\n\n{notes}"


def plan_edits(
    items: epath.PathLike, spec: PlanSpec | None = None, *, fit: Fit | None = None
) -> EditsPlans:
    """What `mre sample` of a list takes.

    Args:
        items: JSON lines, as `mre sample` reads them; only counted.
        spec: where, and how is sampled; None compares `spec.SLICES`.
        fit: calibration; None is that of the programs that are known.

    Raises:
        DataError: if there is no such list, or nothing in it.

    Example:
        >>> spec = PlanSpec(topology=("v5e:2x2",), edits=EditsSpec(model=TOY, pixels=24))
        >>> plan_edits("items.jsonl", spec).items
        1
    """
    spec = spec or PlanSpec()
    slices = [slice_named(name) for name in spec.slices]
    prices, fit, edits = load_prices(spec.prices), fit or fitted(), spec.edits
    count = _count(items)
    model = ModelConfig(
        edits.model or "the model",
        reward=RewardConfig() if not edits.model else None,
        attention="plain",
    )
    sizes = sizes_of(model, as_stored=True)
    work = edit_work(sizes, edits.pixels)
    plans = []
    for where in slices:
        seconds = fit.seconds(where.chip, operations(work, edits))
        seconds *= 1 + fit.kernel_share(where.chip)
        hours = (start_seconds() + seconds * count / where.chips) / 3600
        name, chips = where.chip.name, where.chips
        plans.append(
            EditsPlan(
                where=where,
                seconds=seconds,
                hours=hours,
                usd=prices.hours(name, chips, hours, spot=False),
                spot_usd=prices.hours(name, chips, hours, spot=True),
                weights=work.parameters * jnp.dtype("bfloat16").itemsize / 2**30,
            )
        )
    notes = tuple(_notes(sizes.assumed, edits, slices, fit, prices.as_of))
    return EditsPlans(count, tuple(plans), notes)


def operations(work: EditWork, edits: EditsSpec) -> int:
    """Of one edit: encoding, all evaluations of the UNet in all branches, decoding."""
    evaluations = 2 * edits.steps - 1 if edits.scheduler == "heun" else edits.steps
    return work.encode + work.decode + 3 * work.text + evaluations * BRANCHES * work.forward


def _count(items: epath.PathLike) -> int:
    path = epath.Path(items)
    if not path.exists():
        raise DataError(f"{items} does not exist; give a list as mre sample reads it")
    if path.is_dir():
        raise ConfigError(f"{items} is a folder; give the list of the edits, JSON lines")
    count = sum(1 for line in path.read_text().splitlines() if line.strip())
    if not count:
        raise DataError(f"{items}: no edits in it")
    return count


def _notes(
    assumed: str, edits: EditsSpec, slices: list[Slice], fit: Fit, as_of: str
) -> Iterator[str]:
    yield (
        f"{edits.pixels} px, {edits.steps} steps, {BRANCHES} branches, bfloat16, full batches; no "
        "sampling program was compiled: the share of the peak is that of training steps"
    )
    for chip in {where.chip.name: where.chip for where in slices}.values():
        if (origin := fit.origin(chip)) != "compiled programs":
            yield f"{chip.name}: its {fit.share(chip):.0%} of the peak are {origin}"
    if assumed:
        yield assumed
    yield f"a start takes {start_seconds() / 60:.0f} minutes (assumed); prices of {as_of}"
