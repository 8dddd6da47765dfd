"""A run on paper: does it fit, how long does it take, what does it cost.

from mre_jax.planning.plan import plan
from mre_jax.planning.spec import PlanSpec

print(plan(load_config("configs/reward_ip2p.yaml"), PlanSpec(topology=("v5e:4x4",))))
"""

import dataclasses
from collections.abc import Iterator, Sequence

from mre_jax.errors import ConfigError
from mre_jax.io.processes import output_of
from mre_jax.planning.calibration import Fit, fitted
from mre_jax.planning.hardware import Slice, slice_named
from mre_jax.planning.judging import JudgePlan, plan_judging
from mre_jax.planning.memory import Memory, memory_of
from mre_jax.planning.prices import Prices, load_prices
from mre_jax.planning.region import Run, region_warning
from mre_jax.planning.run_plan import Plan, SlicePlan
from mre_jax.planning.spec import PlanSpec
from mre_jax.planning.storage import (
    GB,
    DataSet,
    cached_bytes,
    checkpoint_bytes,
    data_set,
    loader_cores,
    save_bytes,
    saves_of,
    start_seconds,
)
from mre_jax.planning.timing import time_of
from mre_jax.planning.work import Sizes, Work, sizes_of, work_of
from mre_jax.training.config import TrainConfig

ATTENTION = "tpu"
"""Its implementation where the configuration leaves it open."""


def plan(
    config: TrainConfig,
    spec: PlanSpec | None = None,
    *,
    fit: Fit | None = None,
    ask: Run = output_of,
) -> Plan:
    """What a run takes on some slices, in seconds. Only where a bucket is may be asked.

    Args:
        spec: where, and what is known; None compares `spec.SLICES`.
        fit: calibration; None is that of the programs that are known.
        ask: runs gcloud, where `spec` has a bucket and a zone.

    Raises:
        ConfigError: for a slice that there is not, with the nearest; and if it is the only one
            asked for, where the run does not fit it, with the batch that does.

    Example:
        >>> from mre_jax import DataConfig, ModelConfig, TrainConfig
        >>> data = DataConfig(("nowhere",), batch_size=32, resolution=16)
        >>> config = TrainConfig("toy", 100, ModelConfig(TOY, in_channels=48), data)
        >>> found = plan(config, PlanSpec(topology=("v5e:2x2", "v6e:2x2"), examples=1000))
        >>> found.cheapest.where.name, found.plans[0].memory.fits
        ('v5e:2x2', True)
    """
    spec = spec or PlanSpec()
    slices = [slice_named(name) for name in spec.slices]
    prices, fit = load_prices(spec.prices), fit or fitted()
    data = data_set(config, spec.examples)
    inputs = spec.inputs or data.inputs or "texts"
    config = for_chips(config)
    sizes = sizes_of(config.model)
    work = work_of(config.model, sizes, config.data.resolution)
    plans, refused = [], []
    for where in slices:
        try:
            memory = _fitting(config, work, sizes, where, inputs, fit)
        except ConfigError as error:
            if len(slices) == 1:
                raise
            refused.append((where.name, str(error)))
            continue
        plans.append(_on(config, work, where, inputs, memory, data, spec, prices, fit))
    saved = saves_of(config, work, slices[0], spec.preempted_every).bytes
    cached = (data.examples or 0) * cached_bytes(config, sizes, inputs) * (not data.known)
    return Plan(
        config=config,
        inputs=inputs,
        data=data,
        plans=tuple(plans),
        refused=tuple(refused),
        notes=(
            *_assumptions(config, sizes, work, data, spec, slices, fit, inputs),
            *_close(plans, fit),
            *_transfers(config, data, saved, spec, slices, prices, ask),
        ),
        disk=(data.bytes, cached, checkpoint_bytes(config, saved)),
        prices=prices,
        fit=fit,
        judging=_judging(spec, data),
    )


def _transfers(
    config: TrainConfig,
    data: DataSet,
    saved: int,
    spec: PlanSpec,
    slices: Sequence[Slice],
    prices: Prices,
    ask: Run,
) -> Iterator[str]:
    """What a bucket of another region costs: hosts read the sets, and saves are written."""
    if config.data.requests:  # each its own examples of every step
        fetched = config.steps * config.data.batch_size * data.bytes / (data.examples or 1)
    else:
        fetched = data.bytes * max(where.hosts for where in slices)
    written = config.steps // config.checkpoint.every * saved
    for place in (spec.run, *config.data.paths):
        size = written if place == spec.run else fetched
        if told := region_warning(place, spec.zone, size / GB, prices, ask):
            yield f"warning: {told}"


def memory_on(config: TrainConfig, where: Slice, inputs: str) -> Memory:
    """What a chip of a slice needs for a run.

    Args:
        inputs: what a step reads, one of `memory.INPUTS`.

    Raises:
        ConfigError: if it has less, with the batch that fits; or if the mesh does not divide it.
    """
    config = for_chips(config)
    sizes = sizes_of(config.model)
    work = work_of(config.model, sizes, config.data.resolution)
    return _fitting(config, work, sizes, where, inputs, fitted())


def checkpoints_of(config: TrainConfig) -> int:
    """Bytes of all checkpoints that lie in the run's directory at once."""
    config = for_chips(config)
    work = work_of(config.model, sizes_of(config.model), config.data.resolution)
    return checkpoint_bytes(config, save_bytes(config, work))


def for_chips(config: TrainConfig) -> TrainConfig:
    """With the implementation of attention that chips take, not this machine's."""
    if config.model.attention != "auto":
        return config
    model = dataclasses.replace(config.model, attention=ATTENTION)
    return dataclasses.replace(config, model=model)


def _fitting(
    config: TrainConfig, work: Work, sizes: Sizes, where: Slice, inputs: str, fit: Fit
) -> Memory:
    memory = memory_of(config, work, sizes, where, inputs, fit)
    if not memory.fits:
        raise ConfigError(_too_large(config, where, memory))
    return memory


def _judging(spec: PlanSpec, data: DataSet) -> JudgePlan | None:
    if spec.judge is None:
        return None
    if data.examples is None:
        raise ConfigError(
            "--judge: how many examples there are is not known; give --examples, or data.paths "
            "that are here"
        )
    return plan_judging(spec.judge, data.examples)


def _on(
    config: TrainConfig,
    work: Work,
    where: Slice,
    inputs: str,
    memory: Memory,
    data: DataSet,
    spec: PlanSpec,
    prices: Prices,
    fit: Fit,
) -> SlicePlan:
    time = time_of(config, work, where, inputs, fit)
    saves = saves_of(config, work, where, spec.preempted_every)
    hours = (start_seconds() + config.steps * time.step) / 3600
    spot_hours = hours / max(1 - saves.lost, 0.01)
    seen = config.steps * config.data.batch_size
    return SlicePlan(
        where=where,
        batch=config.data.batch_size,
        memory=memory,
        time=time,
        hours=hours,
        spot_hours=spot_hours,
        usd=prices.hours(where.chip.name, where.chips, hours, spot=False),
        spot_usd=prices.hours(where.chip.name, where.chips, spot_hours, spot=True),
        saves=saves,
        cores=loader_cores(config, where, inputs, time.images),
        epochs=None if data.examples is None else seen / data.examples,
    )


def _too_large(config: TrainConfig, where: Slice, memory: Memory) -> str:
    parts = config.optimizer.accumulation
    text = (
        f"data.batch_size={config.data.batch_size} does not fit {where.name}: a chip needs "
        f"{memory.needed:.1f} GiB of {memory.available:g}"
    )
    step = where.chips * config.loss.together
    smaller = memory.most_examples * where.chips // step * step * parts
    more = [f"{smaller} does"] if smaller else []
    if not config.model.remat:
        more.append("or set model.remat=true" if more else "set model.remat=true")
    more.append(f"or optimizer.accumulation above {parts}")
    return f"{text}; {', '.join(more)}"


def _assumptions(
    config: TrainConfig,
    sizes: Sizes,
    work: Work,
    data: DataSet,
    spec: PlanSpec,
    slices: Sequence[Slice],
    fit: Fit,
    inputs: str,
) -> Iterator[str]:
    yield (
        f"memory and time by {work.parameters:,} parameters, and what compiled programs took: each "
        f"predicted from the others is off by at most {fit.memory_error:.0%} (memory) and "
        f"{fit.time_error:.0%} (time without transfers); no TPU has confirmed the times, which may "
        "be off by 30%"
    )
    for chip in {where.chip.name: where.chip for where in slices}.values():
        if (origin := fit.origin(chip)) != "compiled programs":
            yield f"{chip.name}: its {fit.share(chip):.0%} of the peak are {origin}"
    if sizes.assumed:
        yield sizes.assumed
    if not data.known:
        size = "give --examples for epochs and disks" if data.examples is None else "as given"
        yield f"{', '.join(config.data.paths)}: not here to be looked at; size of the set: {size}"
    known = inputs == "texts" and config.data.resolution == 256
    if not known or config.model.remat or config.mesh.fsdp > 1:
        yield (
            "what was compiled is cached latents and texts of 256 px, without remat and fsdp; for "
            "other steps the errors are not known: --compile tells"
        )
    yield f"a start takes {start_seconds() / 60:.0f} minutes (assumed); hours have one in them"
    yield f"spot chips are taken away every {spec.preempted_every:g} hours (--preempted-every)"


def _close(plans: Sequence[SlicePlan], fit: Fit) -> Iterator[str]:
    """Of those that fit by less than the estimate may be off."""
    for one in plans:
        if one.memory.needed * (1 + fit.memory_error) > one.memory.available:
            yield (
                f"warning: {one.where.name} has {one.memory.available - one.memory.needed:.1f} GiB "
                "to spare, less than the estimate may be off: --compile tells exactly"
            )
