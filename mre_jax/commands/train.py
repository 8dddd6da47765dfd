"""`mre train CONFIG key=value ...`: train, or go on with a run.

The same command on every worker of a pod; workers find each other. A run goes on from the newest
sound checkpoint of its directory, by itself. Exit codes: 0 done; 65 data or numbers are bad, and 78
the configuration is: do not retry; 70 crash: retry a few times; 75 told to end, saved: run again.
"""

import argparse
import dataclasses
import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from mre_jax.data.batches.augment import Augmentation
from mre_jax.data.batches.batch import Batch
from mre_jax.data.batches.device import prefetch
from mre_jax.data.batches.loader import Loader, Reading
from mre_jax.data.batches.order import positions
from mre_jax.data.cache.description import check_cache
from mre_jax.data.extra import require_data_extra
from mre_jax.data.records.record_source import RecordSource
from mre_jax.errors import ConfigError, DataError
from mre_jax.io import compile_cache
from mre_jax.io.memory import check_fits, too_much_is_an_error
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.reward.text import reward_parts
from mre_jax.training import flops
from mre_jax.training import settings
from mre_jax.training.checkpoints.checkpoint import Checkpoints
from mre_jax.training.config import TrainConfig, load_config
from mre_jax.training.held_out import HeldOutLoss, open_held_out
from mre_jax.training.liveness import guarded, start_distributed, watched
from mre_jax.training.loop import Loop
from mre_jax.training.optimizer import make_optimizer
from mre_jax.training.parallel import Layout, check_batch, make_mesh
from mre_jax.training.run.directory import FLAG, Identity, RunDirectory
from mre_jax.training.run.meter import Meter
from mre_jax.training.run.metrics_log import MetricsLog
from mre_jax.training.run.shared_directory import check_shared
from mre_jax.training.skipped import SkippedSteps
from mre_jax.training.start import Needs, Start, load_start
from mre_jax.training.state import State, abstract_state, fresh_state
from mre_jax.training.step import make_loss, make_step
from mre_jax.training.text_cuts import TextCuts
from mre_jax.training.validation import Validation

EPILOG = """\
The same command goes on with a run that is there, from its newest sound checkpoint; on a pod, give
it to every worker. Exit codes:

  0   done
  65  the data or the numbers are bad: do not retry
  70  crash or hang: retry a few times
  75  told to end, and saved; or another process is at the run: run the same command again
  78  the configuration is bad: do not retry
"""


MEMORY_REMEDIES = (
    "lower data.batch_size, compute it in more parts by optimizer.accumulation, recompute "
    "activations by model.remat=true, or split the parameters over more devices by mesh.fsdp"
)


class _Keys(argparse.Action):
    """Lists the configuration's keys, and ends as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        rows = settings.describe(TrainConfig)
        width = max(len(key) for key, _, _ in rows)
        for key, kind, default in rows:
            print(f"{key:{width}}  {kind}: {default}")
        print("model.reward is null, no condition, unless one of its keys is given.")
        parser.exit()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mre train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("config", help="a file of configs/, or of your own")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="as optimizer.learning_rate=1e-4"
    )
    parser.add_argument(
        "--keys", action=_Keys, nargs=0, help="list all keys with their types and defaults"
    )
    parser.add_argument("--run", required=True, help="the run's directory, local or gs://...")
    parser.add_argument(
        FLAG, action="store_true", help="go on although configuration or data have changed"
    )
    parser.add_argument(
        "--alone",
        action="store_true",
        help="join no other processes; SIGTERM then ends the run without a checkpoint",
    )


def run(args: argparse.Namespace) -> int:
    """Trains as the configuration says."""
    config = load_config(args.config, args.overrides)

    def joined() -> int:
        if not args.alone:
            start_distributed()
        compile_cache.enable()
        return train(config, args.run, allow_config_change=args.allow_config_change)

    return guarded(joined)


def train(config: TrainConfig, folder: str | Path, *, allow_config_change: bool = False) -> int:
    """Trains a run to its last step, from wherever it is.

    Args:
        config: of the run.
        folder: of the run; made if it is not there.
        allow_config_change: go on with a run whose configuration or data were others.

    Returns:
        0.

    Raises:
        ConfigError, DataError: before anything is compiled, for what does not fit; as `Loop`; and
            at the end, all being done and saved, for more skipped steps than
            `config.guard.max_skipped`.
    """
    mesh = make_mesh(config.mesh)
    layout = Layout.of(config.mesh, mesh)
    check_batch(config.data.batch_size, config.optimizer.accumulation, mesh, jax.process_count())
    with too_much_is_an_error(MEMORY_REMEDIES):
        sources, loader = open_data(config)
    if jax.process_index() == 0:
        print(f"{folder}: {describe_data(config, sources)}")
    held_out = open_held_out(config, loader) if config.validation.loss_every else None
    seconds = config.guard.watchdog_seconds
    with (
        watched("loading the weights", seconds, first_seconds=7200.0),  # or a download of them
        too_much_is_an_error(MEMORY_REMEDIES),
    ):
        start = load_start(config, layout, _needs(loader, *([held_out] if held_out else [])))
    cuts = _cuts(start, config)
    loader = _fitted(loader, start, cuts, config)
    if held_out is not None:
        held_out = _fitted(held_out, start, _cuts(start, config), config)
    writes = jax.process_index() == 0
    directory = RunDirectory(folder, writes=writes)
    validate = None
    if config.validation.every:
        validate = Validation(config, start.unet, start.schedule, layout, directory)
    identity = Identity(config, tuple(s.manifest.hash for s in sources), start.weights)
    optimizer = make_optimizer(config.optimizer, config.steps)
    abstract = abstract_state(
        start.unet.abstract, optimizer, layout, ema=config.model.ema_decay is not None
    )
    checkpoints = _checkpoints(config, directory)
    checkpoints.check_space(abstract)
    meter = _meter(config, start)
    meta = None if directory.exists() else checkpoints.newest_meta()
    try:
        with (
            directory.opened(identity, meta=meta, allow_config_change=allow_config_change),
            too_much_is_an_error(MEMORY_REMEDIES),
        ):
            # Waits for the slowest worker to have loaded, which may take it as long as that may.
            with watched("comparing the workers' directories", seconds, first_seconds=7200.0):
                check_shared(directory.path)
            directory.event("init_done")
            with watched("restoring the newest checkpoint", seconds):
                state, done = _restored(start, optimizer, abstract, layout, checkpoints, directory)
            skipped = SkippedSteps(directory, functools.partial(_names, loader), done)
            if done >= config.steps:
                print(f"{folder}: all {config.steps} steps are done")
                _conclude(config, directory, skipped)
                return 0
            with watched("compiling the step", seconds, first_seconds=7200.0):
                step = compiled_step(config, start, optimizer, layout, loader, abstract)
            log = _log(config, directory, done) if writes else None
            try:
                loop = Loop(
                    config,
                    step=step,
                    frozen=start.frozen,
                    batches=functools.partial(_batches, loader, layout),
                    layout=layout,
                    run=directory,
                    checkpoints=checkpoints,
                    meta=identity.to_meta(),
                    meter=meter,
                    log=log,
                    skipped=skipped,
                    validate=validate,
                    held_out=None
                    if held_out is None
                    else _held_out(config, start, layout, held_out),
                )
                loop(state, done)
            finally:
                if writes:
                    cuts.tell()
                if log is not None:
                    log.close()
            _conclude(config, directory, skipped)
    finally:
        if directory.goodput is not None:
            print(f"{folder}: {directory.goodput}")
    return 0


def open_data(config: TrainConfig) -> tuple[list[RecordSource], Loader]:
    """The sets of a run, and the loader that reads them, as yet without a tokenizer.

    Raises:
        ConfigError, DataError: for a set that is missing, damaged, or lacks what the run needs.
    """
    data = config.data
    require_data_extra()
    sources = [RecordSource(path) for path in data.paths]
    if data.min_score:
        sources = [source.with_min_score(data.min_score) for source in sources]
    _check_rewards(config, sources)
    loader = Loader(
        sources,
        batch_size=data.batch_size,
        seed=config.seed,
        weights=data.weights,
        augmentation=Augmentation(
            data.resolution,
            resize_to=data.resize,
            filter=data.filter,
            flip=data.flip,
            fit=data.fit,
        ),
        dropout=config.loss.dropout,
        host=jax.process_index(),
        hosts=jax.process_count(),
        parts_of=functools.partial(
            reward_parts, none_for_top=data.none_for_top, perspectives=_perspectives(config)
        ),
        reading=Reading(data.threads, data.workers, data.ahead),
        cache=data.cache,
    )
    return sources, loader


def describe_data(config: TrainConfig, sources: Sequence[RecordSource]) -> str:
    """How many examples a run has, and how many of them a reward, if it asks for rewards."""
    told = f"{sum(map(len, sources))} examples"
    if not config.model.takes_reward and config.loss.score_weighting == "none":
        return told
    return f"{told}, {sum(source.rewarded_count for source in sources)} of them with a reward"


def _check_rewards(config: TrainConfig, sources: Sequence[RecordSource]) -> None:
    asking = {
        "model.reward=null": config.model.takes_reward,
        "loss.score_weighting=none": config.loss.score_weighting != "none",
    }
    remedies = [remedy for remedy, asks in asking.items() if asks]
    if remedies and not any(source.rewarded_count for source in sources):
        paths = ", ".join(str(source.path) for source in sources)
        raise DataError(
            f"{paths}: no rewards in it, and {remedies[0].partition('=')[0]} asks for them; "
            f"prepare it with --rewards, or set {remedies[0]}"
        )


def _perspectives(config: TrainConfig) -> tuple[str, ...]:
    reward = config.model.reward
    return PERSPECTIVES if reward is None else reward.perspectives


def _needs(*loaders: Loader) -> Needs:
    caches = [loader.reads_cache for loader in loaders]
    return Needs(
        vae=None in caches,
        text_encoder=any(cache is None or cache.text is None for cache in caches),
    )


def _cuts(start: Start, config: TrainConfig) -> TextCuts:
    return TextCuts(start.tokenizer, _perspectives(config), config.data.reward_cut)


def _fitted(loader: Loader, start: Start, cuts: TextCuts, config: TrainConfig) -> Loader:
    """The loader with a tokenizer, if its pictures or its cache are such as the encoders take."""
    if config.data.resolution % start.downscale:
        raise ConfigError(
            f"data.resolution={config.data.resolution} must be a multiple of {start.downscale}, "
            "the pixels that the VAE makes one latent of"
        )
    if loader.reads_cache is not None:
        check_cache(
            loader.sources,
            start.hashes,
            none_for_top=config.data.none_for_top,
            perspectives=_perspectives(config),
            reward_cut=config.data.reward_cut,
        )
    return dataclasses.replace(loader, tokenize=cuts, tokenize_rewards=cuts.rewards)


def _held_out(config: TrainConfig, start: Start, layout: Layout, loader: Loader) -> HeldOutLoss:
    loss = make_loss(config, start.unet, start.encoders, start.schedule, layout)
    return HeldOutLoss(config, loader, loss, start.frozen, layout)


def _names(loader: Loader, step: int, rows: Sequence[int]) -> list[str]:
    """The examples in some rows of the batch of a step, counted from 1."""
    where = positions(step - 1, loader.batch_size)[list(rows)]
    return [f"{source[record].id} of {source.path}" for source, record in loader.find(where)]


def _conclude(config: TrainConfig, directory: RunDirectory, skipped: SkippedSteps) -> None:
    """Says how many steps of a run that is done were skipped, and fails if they are too many."""
    if not skipped.count:
        return
    told = skipped.summary(config.steps)
    fits = config.guard.may_skip(skipped.count, config.steps)
    directory.stop(f"done, but {told}", 0 if fits else DataError.exit_code, skipped=skipped.count)
    if not fits:
        raise DataError(
            f"{directory.path}: done and saved, but {told}; mend or leave out these examples, or "
            f"set guard.max_skipped (now {config.guard.max_skipped:g}) to accept it"
        )
    if directory.writes:
        print(f"warning: {directory.path}: {told}", file=sys.stderr)


def compiled_step(
    config: TrainConfig,
    start: Start,
    optimizer: optax.GradientTransformation,
    layout: Layout,
    loader: Loader,
    abstract: State,
) -> Any:
    """The program of a step, made before the first batch is read.

    Raises:
        ConfigError: if it needs more memory than a device has.
    """
    step = make_step(config, start.unet, start.encoders, start.schedule, optimizer, layout)
    cuts = _cuts(start, config)  # of its own: what is read here counts for nothing
    small = dataclasses.replace(
        loader, batch_size=loader.hosts, tokenize=cuts, tokenize_rewards=cuts.rewards
    )
    one = small.batch(0)
    one = one._replace(positions=one.positions.astype(np.uint32))  # as `to_global`
    batch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(
            (loader.batch_size, *x.shape[1:]), x.dtype, sharding=layout.batch
        ),
        one,
    )
    with jax.set_mesh(layout.mesh):
        program = step.lower(abstract, start.frozen, batch).compile()
    check_fits(program, MEMORY_REMEDIES)
    return program


def _batches(loader: Loader, layout: Layout, start: int, stop: int) -> Iterator[Batch]:
    return prefetch(loader.batches(start, stop), layout.mesh)


def _checkpoints(config: TrainConfig, directory: RunDirectory) -> Checkpoints:
    checkpoint = config.checkpoint
    return Checkpoints(
        directory.checkpoints,
        every=checkpoint.every,
        keep=checkpoint.keep,
        keep_every=checkpoint.keep_every,
        pinned=checkpoint.pinned,
    )


def _restored(
    start: Start,
    optimizer: optax.GradientTransformation,
    abstract: State,
    layout: Layout,
    checkpoints: Checkpoints,
    directory: RunDirectory,
) -> tuple[State, int]:
    """The newest sound state of the run, or the one before its first step."""
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


def _log(config: TrainConfig, directory: RunDirectory, done: int) -> MetricsLog:
    tensorboard = directory.tensorboard if config.log.tensorboard else None
    return MetricsLog(directory.metrics, tensorboard=tensorboard, start=done)


def _meter(config: TrainConfig, start: Start) -> Meter:
    """Counts the UNet's operations; the frozen encoders' are not what is trained."""
    side = config.data.resolution // start.downscale
    work = flops.training(start.unet_config, side, side) * config.data.batch_size
    devices = jax.devices()
    return Meter(config.data.batch_size, work / len(devices), flops.peak(devices[0]))
