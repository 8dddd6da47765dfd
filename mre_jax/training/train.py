"""A run from its first line to its last: data, networks, state, the compiled step, the loop.

    from mre_jax.training.config import load_config
    from mre_jax.training.train import train

    run = train(load_config("configs/reward_ip2p.yaml", ["steps=100"]), "runs/first")
    print(run.goodput)

`mre train` does the same after joining the other processes of a pod.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax
from etils import epath
from jax.experimental import multihost_utils
from jax.stages import Compiled

from mre_jax.data.batches.device import prefetch
from mre_jax.data.batches.loader import Loader
from mre_jax.errors import DataError
from mre_jax.io.memory import check_fits, too_much_is_an_error
from mre_jax.training import flops
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.config import TrainConfig
from mre_jax.training.data import RunData, open_data
from mre_jax.training.frozen import RequiredNetworks
from mre_jax.training.held_out import HeldOutLoss
from mre_jax.training.liveness import watched
from mre_jax.training.loop import Loop
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, check_batch, make_mesh
from mre_jax.training.pretrained import can_resume
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.run.meter import Meter
from mre_jax.training.run.metrics_log import MetricsLog
from mre_jax.training.run.shared_directory import check_shared
from mre_jax.training.skipped import SkippedSteps
from mre_jax.training.start import Start, load_start, resumed_start
from mre_jax.training.state import State, abstract_state, fresh_state
from mre_jax.training.step import make_loss, make_step
from mre_jax.training.validation import Validation

LOADING_SECONDS = 7200.0
"""What weights, which may have to be downloaded, and compiling may take on the slowest worker."""

MEMORY_REMEDIES = (
    "lower data.batch_size, compute it in more parts by optimizer.accumulation, recompute "
    "activations by model.remat=true, or split the parameters over more devices by mesh.fsdp"
)


def train(
    config: TrainConfig,
    run: epath.PathLike,
    *,
    allow_config_change: bool = False,
    log: Callable[[str], object] = lambda line: None,
) -> RunDirectory:
    """Trains a run to its last step, from wherever it is. All its processes call this together.

    Args:
        run: the run's directory, local or `gs://...`; made if it is not there.
        allow_config_change: go on with a run whose configuration or data were others.
        log: takes what is read and how the time was spent, a line each; on the first process.

    Returns:
        The run's directory, which holds its metrics, events and checkpoints.

    Raises:
        ConfigError, DataError: before anything is compiled, for what does not fit; as `Loop`; and
            at the end, all being done and saved, for more skipped steps than
            `config.guard.max_skipped`.

    Example:
        >>> from mre_jax import DataConfig, ExportSpec, ModelConfig, TrainConfig, export
        >>> model = ModelConfig(TOY, in_channels=48, compute_dtype="float32")
        >>> data = DataConfig(("shards",), batch_size=8, resolution=16)
        >>> run = train(TrainConfig("first", 1, model, data), "run")
        >>> export(ExportSpec(run.path, "editor")).step
        1
    """
    mesh = make_mesh(config.mesh)
    layout = Layout.of(config.mesh, mesh)
    check_batch(config, mesh, jax.process_count())
    with too_much_is_an_error(MEMORY_REMEDIES):
        data = open_data(config)
    directory = RunDirectory(run, writes=jax.process_index() == 0)
    checkpoints = Checkpoints(directory.checkpoints, **dataclasses.asdict(config.checkpoint))
    if directory.writes:
        log(f"{run}: {data}")
    start = _started(config, layout, data.required, directory, checkpoints)
    data = data.fitted(start)
    validate = None
    if config.validation.every:
        validate = Validation(config, start, layout, directory)
    optimizer = make_optimizer(config.optimizer, config.steps)
    abstract = abstract_state(
        start.networks.abstract, optimizer, layout, ema=config.model.ema_decay is not None
    )
    checkpoints.check_space(abstract)
    identity = Identity(config, data.hashes, start.weights)
    meta = None if directory.exists() else checkpoints.newest_meta()
    try:
        with (
            directory.opened(identity, meta=meta, allow_config_change=allow_config_change),
            too_much_is_an_error(MEMORY_REMEDIES),
        ):
            start = start.kept_in(directory.model if directory.writes else None)
            directory.event("init_done")
            with _long(config, "restoring the newest checkpoint"):  # and the slowest to have loaded
                state, done = _restored(start, optimizer, abstract, layout, checkpoints, directory)
            skipped = SkippedSteps(directory, data.names, done)
            if done >= config.steps:
                if directory.writes:
                    log(f"{run}: all {config.steps} steps are done")
                _conclude(config, directory, skipped)
                return directory
            with _long(config, "compiling the step"):
                step = compiled_step(config, start, optimizer, layout, data, abstract)
            with _metrics_log(config, directory, data, done) as metrics:
                loop = Loop(
                    config,
                    step=step,
                    frozen=start.frozen,
                    batches=lambda *span: prefetch(data.training.batches(*span), mesh),
                    layout=layout,
                    run=directory,
                    checkpoints=checkpoints,
                    meta=identity.to_meta(),
                    meter=_meter(config, start),
                    log=metrics,
                    skipped=skipped,
                    validate=validate,
                    held_out=_held_out(config, start, layout, data.held_out),
                )
                loop(state, done)
            _conclude(config, directory, skipped)
    finally:
        if directory.goodput is not None:
            log(f"{run}: {directory.goodput}")
    return directory


def _started(
    config: TrainConfig,
    layout: Layout,
    required: RequiredNetworks,
    directory: RunDirectory,
    checkpoints: Checkpoints,
) -> Start:
    """What a resume needs from the run itself; from `model.init_from` if it is not there."""
    with _long(config, "comparing the workers' directories"):
        if jax.process_count() > 1:
            directory.make_folders()
        check_shared(directory.path)
    with _long(config, "loading the weights"), too_much_is_an_error(MEMORY_REMEDIES):
        resumes = checkpoints.any() and can_resume(directory.model, config)
        if multihost_utils.broadcast_one_to_all(np.int32(resumes)):
            return resumed_start(directory.model, config, layout, required)
        return load_start(config, layout, required)


def _restored(
    start: Start,
    optimizer: optax.GradientTransformation,
    abstract: State,
    layout: Layout,
    checkpoints: Checkpoints,
    directory: RunDirectory,
) -> tuple[State, int]:
    """The newest valid state of the run, or the one before its first step."""
    if checkpoints.committed():
        for param in start.params.values():  # They would stand in the way of those restored.
            param.delete()
    restored = checkpoints.restore_newest(abstract)
    if restored is None:
        return fresh_state(start.params, optimizer, layout, ema=bool(abstract["ema"])), 0
    for reason in restored.skipped:
        print(f"warning: {reason}; going back to step {restored.step}", file=sys.stderr)
    directory.event("restore_done", step=restored.step)
    return restored.state, restored.step


def compiled_step(
    config: TrainConfig,
    start: Start,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    data: RunData,
    abstract: State,
) -> Compiled:
    """The program of a step, made before the first batch is read.

    Raises:
        ConfigError: if it needs more memory than a device has.
    """
    step = make_step(config, start.networks, start.encoders, start.schedule, optimizer, layout)
    one = data.smallest_batch(start)
    one = one._replace(positions=one.positions.astype(np.uint32))  # as `to_global`
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (config.data.batch_size, *x.shape[1:]), x.dtype, sharding=layout.batch
        ),
        one,
    )
    with jax.set_mesh(layout.mesh):
        program: Compiled = step.lower(abstract, start.frozen, batch).compile()
    check_fits(program, MEMORY_REMEDIES)
    return program


@contextlib.contextmanager
def _metrics_log(
    config: TrainConfig, directory: RunDirectory, data: RunData, done: int
) -> Iterator[MetricsLog | None]:
    """Where rows of metrics go from a step on; nowhere on processes that do not write."""
    tensorboard = directory.tensorboard if config.log.tensorboard else None
    metrics = None
    if directory.writes:
        metrics = MetricsLog(directory.metrics, tensorboard=tensorboard, start=done)
    try:
        yield metrics
    finally:
        if metrics is not None:
            data.report_truncation()
            metrics.close()


def _long(config: TrainConfig, what: str) -> contextlib.AbstractContextManager[None]:
    """Watches what happens once, and may take long."""
    return watched(what, config.guard.watchdog_seconds, first_seconds=LOADING_SECONDS)


def _conclude(config: TrainConfig, directory: RunDirectory, skipped: SkippedSteps) -> None:
    """Says how many steps of a run that is done were skipped, and fails if they are too many."""
    if not skipped.count:
        return
    summary = skipped.summary(config.steps)
    fits = config.guard.may_skip(skipped.count, config.steps)
    code = 0 if fits else DataError.exit_code
    directory.stop(f"done, but {summary}", code, skipped=skipped.count)
    if not fits:
        raise DataError(
            f"{directory.path}: done and saved, but {summary}; mend or leave out these examples, "
            f"or set guard.max_skipped (now {config.guard.max_skipped:g}) to accept it"
        )
    if directory.writes:
        print(f"warning: {directory.path}: {summary}", file=sys.stderr)


def _held_out(
    config: TrainConfig, start: Start, layout: Layout, loader: Loader | None
) -> HeldOutLoss | None:
    if loader is None:
        return None
    loss = make_loss(config, start.networks, start.encoders, start.schedule, layout)
    return HeldOutLoss(config, loader, loss, start.frozen, layout)


def _meter(config: TrainConfig, start: Start) -> Meter:
    """Counts the UNet's operations, where it alone is trained; those of frozen encoders never."""
    work = None
    if config.loss.objective == "denoising":
        side = config.data.resolution // start.downscale
        step = flops.training(start.unet_config, side, side) * config.data.batch_size
        work = step / jax.device_count()
    return Meter(config.data.batch_size, work, flops.peak(jax.devices()[0]))
