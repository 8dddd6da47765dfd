"""The loop: sample, judge, prepare, train, export, evaluate, again."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mre_jax.data.batches.order import Order
from mre_jax.data.records.record_source import RecordSource
from mre_jax.data.stats import StatsSpec, describe
from mre_jax.errors import ConfigError
from mre_jax.evaluation.results import read_results, select
from mre_jax.improvement.held_out import check_apart
from mre_jax.improvement.mixture import Mixture, mix
from mre_jax.improvement.outcome import Improvement, RoundResult, rise, system_name
from mre_jax.improvement.own_edits import check_pictures
from mre_jax.improvement.spec import ImproveSpec
from mre_jax.improvement.stages import Log, Stages
from mre_jax.io.begun_folder import begin
from mre_jax.io.files import locked, write_atomically
from mre_jax.io.json_file import to_bytes
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.training.config import TrainConfig


def improve(config: TrainConfig, spec: ImproveSpec, log: Log = lambda line: None) -> Improvement:
    """Goes through the rounds that the folder does not hold yet, in one process.

    Args:
        config: the training of each round: `model.init_from` is the editor that the loop begins
            with, `data.paths` are the sets whose pictures are edited, and that are trained on
            beside the own edits. A round goes on from the model of the round before, with a
            schedule and an optimizer of its own.
        log: takes what there is to say on the way, a line or more at a time.

    Raises:
        ConfigError: for a setting that does not fit; or if the folder was begun with others.
        BudgetError: if the ceiling of the judge is reached; the same call with more goes on.
        DataError: if a held-out picture stands in a training set, or as the stages.
        BusyError: if another process is at the folder, or as the stages.

    Example:
        >>> from mre_jax import DataConfig, ImproveSpec, JudgeSpec, ModelConfig, SamplingSettings
        >>> from mre_jax import TrainConfig, improve
        >>> model = ModelConfig(TOY, in_channels=48, compute_dtype="float32")
        >>> data = DataConfig(("shards",), batch_size=8, resolution=16)
        >>> spec = ImproveSpec(
        ...     held_out="held_out", out="loop", rounds=1, edits=2, size="keep",
        ...     sampling=SamplingSettings(num_inference_steps=1),
        ...     judge=JudgeSpec("toy"), scenes="toy/triplets",
        ... )
        >>> found = improve(TrainConfig("first", 1, model, data), spec)
        >>> found.rounds[0].own_edits
        4
    """
    out = Path(spec.out)
    sources = [RecordSource(path) for path in config.data.paths]
    check_pictures(sources)
    _check_judge(spec)
    asked = _asked(spec, sources)
    _check_sizes(config, spec, sources, asked)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, ".lock-improve"):
        begin(out / "improve.json", _settings(config, spec, sources), kind="loop of mre improve")
        stages = Stages(config, spec, sources, log)
        cases = stages.held_out()
        check_apart(cases, sources, out / "held_out.json")
        held_out, own = (len(PERSPECTIVES) * count for count in (len(cases), asked))
        log(f"the judge is asked {held_out} times a model, and {own} times a round at most")
        return _outcome(stages, _rounds(stages))


def _rounds(stages: Stages) -> list[RoundResult]:
    """All rounds, until one does not rise."""
    spec = stages.spec
    stages.score(system_name(0), stages.model(0))
    results: list[RoundResult] = []
    for number in range(1, spec.rounds + 1):
        results.append(_round(stages, number))
        if spec.control:
            _control(stages, number)
        if results[-1].rise <= spec.min_rise:
            stages.log(f"round {number} does not rise by more than {spec.min_rise:g}: it is last")
            break
    return results


def _round(stages: Stages, number: int) -> RoundResult:
    """One round, or what is missing of it."""
    folder = stages.folder(number)
    done = folder / "round.json"
    if done.exists():
        return RoundResult.read(done)
    stages.log(f"round {number}: edits of training pictures")
    stages.sample(number)
    stages.log(f"round {number}: their scores")
    stages.judge(number)
    own_edits = stages.prepare(number)
    stages.log(f"round {number}: training")
    mixture, own = stages.mixture(number)
    stages.train(number, stages.model(number - 1), folder, mixture, own)
    stages.log(f"round {number}: held-out edits")
    rows = stages.score(system_name(number), stages.model(number))
    before = select(read_results(stages.results), system=system_name(number - 1))
    share, found = mixture.own_share, rise(rows, before)
    result = RoundResult.of(number, own_edits, share, found, stages.spent())
    write_atomically(done, to_bytes(dataclasses.asdict(result)))
    return result


def _control(stages: Stages, number: int) -> None:
    """As many steps without own edits, from the control of the round before."""
    stages.log(f"round {number}: as many steps without own edits")
    folders = [stages.folder(one) / "control" for one in (number - 1, number)]
    begun_with = str(folders[0] / "model") if number > 1 else stages.model(0)
    mixture = Mixture(0, stages.config.data.weights)
    stages.train(number, begun_with, folders[1], mixture, [])
    stages.score(system_name(number, control=True), str(folders[1] / "model"))


def _outcome(stages: Stages, results: Sequence[RoundResult]) -> Improvement:
    rose = [result.round for result in results if result.rise > stages.spec.min_rise]
    best = rose[-1] if rose else 0
    lineage = Counter[str]()
    for result in results:
        lineage.update(describe(StatsSpec(stages.own_set(result.round))).lineage)
    return Improvement(
        results,
        best,
        stages.model(best),
        read_results(stages.results),
        [(str(source.path), len(source)) for source in stages.sources],
        lineage,
    )


def _asked(spec: ImproveSpec, sources: Sequence[RecordSource]) -> int:
    """Own edits of a round, at most."""
    return min(spec.edits, sum(map(len, sources))) * spec.seeds_per_edit


def _check_sizes(
    config: TrainConfig, spec: ImproveSpec, sources: Sequence[RecordSource], asked: int
) -> None:
    """Finds sets that are too small beside the others, before anything was paid for."""
    sizes, own = [source.groups for source in sources], [asked] * spec.rounds
    mixture = mix(sizes, own, weights=config.data.weights, max_own_share=spec.max_own_share)
    try:
        Order((*sizes, *own), 0, mixture.weights)
    except ConfigError as error:
        raise ConfigError(f"{asked} own edits a round (--edits): {error}") from None


def _check_judge(spec: ImproveSpec) -> None:
    """Finds a judge that cannot be asked before hours of editing."""
    spec.judge.make()
    spec.judge.budget()
    if spec.judge.name == "toy" and spec.scenes is None:
        raise ConfigError("--judge toy knows scenes; give the triplets of mre toy as --scenes")


def _settings(
    config: TrainConfig, spec: ImproveSpec, sources: Sequence[RecordSource]
) -> dict[str, Any]:
    """What decides every file; not how many rounds there are, and not what may be paid."""
    values = config.to_dict()
    training = {name: values[name] for name in ("steps", "seed", "model", "data", "loss")}
    training["optimizer"] = values["optimizer"]
    for name in ("paths", "threads", "workers", "ahead", "requests"):  # of paths, their content
        del training["data"][name]
    judge = {name: getattr(spec.judge, name) for name in ("name", "base_url", "options")}
    names = ("edits", "seeds_per_edit", "max_own_share", "pack", "picture", "size", "resolution")
    return {
        "training": training,
        "sets": [source.manifest.hash for source in sources],
        **{name: getattr(spec, name) for name in names},
        "sampling": dataclasses.asdict(spec.sampling),
        "conditions": dataclasses.asdict(spec.conditions),
        "batch_size": spec.batch_size,
        "judge": judge,
    }
