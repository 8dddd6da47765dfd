"""The story as data: its chapters, and the jobs of each."""

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mre_jax.data.cache.description import CacheOptions
from mre_jax.data.prepare import CacheSpec, PrepareSpec
from mre_jax.demo.editor import EditorSizes
from mre_jax.demo.jobs import Job, MakeToy, Train
from mre_jax.demo.rounds import EXACT, MAIN_ROUND, Round
from mre_jax.demo.scale import Scale
from mre_jax.demo.systems import (
    ABLATIONS,
    BEST,
    DROPPED,
    GUIDED_EDITS,
    MAIN,
    ONLY_BEST,
    PRETRAINED,
    REWARD,
    USES,
    System,
    Use,
    guidance,
)
from mre_jax.demo.training import train_config
from mre_jax.demo.words import words_by_score
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.request import EditConditions
from mre_jax.editing.settings import SamplingSettings
from mre_jax.evaluation.best_of import BestOf
from mre_jax.evaluation.edit_set import set_name
from mre_jax.evaluation.suites.challenging import Challenging
from mre_jax.evaluation.suites.real_edit import RealEdit
from mre_jax.evaluation.system import Scores, SystemSpec
from mre_jax.judges.spec import JudgeSpec
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.toyworld import EDITOR, GUIDANCE
from mre_jax.toyworld.dataset import Settings
from mre_jax.training.export import ExportSpec
from mre_jax.weights.convert import ConvertSpec

WORDS = "reward_words.json"
_FIRST_SCENES = 3
_ONE_EDIT = BestOf()  # of each item, and nothing to pick
_EDITS_AT_A_TIME = 21
"""On each device. It divides the edits of every benchmark here on one device, and those of most on
two, four and eight: a batch that is not full costs as much as one that is."""


@dataclasses.dataclass(frozen=True)
class Step:
    """Jobs that are done once, however often the demo is stopped.

    Attributes:
        name: of the mark that they are done.
        jobs: in order.
    """

    name: str
    jobs: tuple[Job, ...]


@dataclasses.dataclass(frozen=True)
class Chapter:
    """A part of the story.

    Attributes:
        title: what it is about.
        steps: in order.
    """

    title: str
    steps: tuple[Step, ...]


class Plan:
    """What a demo of a size does in a folder.

    Attributes:
        out: folder for everything.
        scale: sizes of everything.
        sizes: of the pretrained editor.
        words: sentences that come with low rewards, by perspective and score.
    """

    def __init__(self, out: Path, scale: Scale):
        self.out, self.scale = out, scale
        self.sizes = EditorSizes.of(EDITOR)
        self.words = words_by_score()

    @functools.cached_property
    def chapters(self) -> tuple[Chapter, ...]:
        """The story."""
        return tuple(self._chapters())

    @property
    def first(self) -> Path:
        """Folder of the first edits, and of their results."""
        return self.out / "first"

    @property
    def results(self) -> Path:
        """Folder of the edits and results of the main round."""
        return self.results_of(MAIN_ROUND)

    @property
    def rounds(self) -> list[Round]:
        """All that the uses of rewards are compared on."""
        scale = self.scale
        given = [Round(share) for share in scale.shares]
        given += [Round(judge=judge) for judge in scale.judges]
        return [dataclasses.replace(one, seed=seed) for one in given for seed in range(scale.seeds)]

    def results_of(self, round_: Round, *, by_its_judge: bool = False) -> Path:
        """Folder of the results of a round.

        Args:
            by_its_judge: as the judge who gave the rewards scores the edits, not as the exact one.
        """
        return self.out / round_.folder / ("results-judge" if by_its_judge else "results")

    @property
    def systems(self) -> tuple[System, ...]:
        """What is trained, with the first seed."""
        uses = {use.system: None for use in self.uses}
        return (*uses, *((*ABLATIONS, DROPPED) if self.scale.ablations else ()))

    @property
    def uses(self) -> tuple[Use, ...]:
        """The uses of rewards that are compared."""
        return USES if self.scale.uses else tuple(use for use in USES if use.system in MAIN)

    def _chapters(self) -> Iterator[Chapter]:
        yield Chapter("the first edits, by the pretrained editor", (self._first_edits(),))
        title = "a pretrained InstructPix2Pix of the toy world, from PyTorch"
        yield Chapter(title, (self._bring_in(),))
        title = "flawed triplets with rewards, as TFRecords with cached latents"
        yield Chapter(title, (self._prepare(MAIN_ROUND),))
        for system in self.systems:
            steps = tuple(self._training(system, MAIN_ROUND))
            yield Chapter(f"training: {system.name}", steps)
        title = "editing pictures that no editor has seen, and judging the edits"
        yield Chapter(title, tuple(self._evaluations()))
        for round_ in self.rounds:
            if round_ != MAIN_ROUND:  # which the chapters above are
                title = f"every use of rewards again: {' '.join(round_.folder.parts)}"
                yield Chapter(title, tuple(self._again(round_)))

    def _first_edits(self) -> Step:
        toy = MakeToy(self.first / "toy", self._toy(1, _FIRST_SCENES, MAIN_ROUND))
        benchmark = self.first / "toy" / "benchmark"
        system = self._system(PRETRAINED, EDITOR)
        return Step("first-edits", (toy, self._real_edit(system, self.first, benchmark)))

    def _bring_in(self) -> Step:
        """With PyTorch there, every network is compared."""
        there = importlib.util.find_spec("torch") is not None
        model = str(self._model(PRETRAINED))
        return Step("convert", (ConvertSpec(str(EDITOR), model, verify=there, force=True),))

    def _prepare(self, round_: Round) -> Step:
        folder = self.out / round_.data
        toy, shards = folder / "toy", folder / "shards"
        prepare = PrepareSpec(
            "instruct_pix2pix",
            str(toy / "triplets"),
            out=str(shards),
            rewards=str(toy / "RewardEdit.json"),
        )
        scale = self.scale
        made = MakeToy(toy, self._toy(scale.examples, scale.scenes, round_))
        cache = self._cache(folder, "cached", PERSPECTIVES)
        name = dataclasses.replace(round_, seed=0).name("prepare")
        return Step(name, (made, prepare, cache))

    def _toy(self, examples: int, scenes: int, round_: Round) -> Settings:
        return Settings(
            examples,
            size=self.sizes.pixels,
            image_format="png",
            benchmark=scenes,
            variants=self.scale.variants,
            clean_share=round_.share,
            judge_noise=round_.judge.noise,
            judge_bias=round_.judge.bias,
        )

    def _cache(self, folder: Path, name: str, perspectives: tuple[str, ...]) -> CacheSpec:
        options = CacheOptions(
            text=True, perspectives=perspectives, resolution=self.sizes.pixels, batch_size=64
        )
        model = self._model(PRETRAINED)
        out = str(folder / name)
        return CacheSpec(str(folder / "shards"), model=str(model), out=out, cached=options)

    def _training(self, system: System, round_: Round) -> Iterator[Step]:
        """Caches the reward texts that only this system reads, trains it, and exports it."""
        data, folder = self.out / round_.data, self.out / round_.folder
        cached = "cached"
        if system.reward is not None and system.reward.perspectives != PERSPECTIVES:
            cached = "-".join((cached, *system.reward.perspectives))
            job = self._cache(data, cached, system.reward.perspectives)
            yield Step(round_.name(cached), (job,))
        config = train_config(
            system,
            str(self._model(PRETRAINED)),
            str(data / cached),
            self.scale.steps,
            sizes=self.sizes,
            seed=round_.seed,
        )
        run = folder / "runs" / system.folder
        training = Train(config, folder / "configs" / f"{system.folder}.yaml", run)
        export = ExportSpec(str(run), str(self._model(system.folder, round_)), force=True)
        yield Step(round_.name(f"train-{system.folder}"), (training, export))

    def _evaluations(self) -> Iterator[Step]:
        """Every use of rewards, the editor with rewards under all that are asked, ablations."""
        yield self._evaluation(self._system(PRETRAINED, self._model(PRETRAINED)))
        for use in self.uses:
            yield self._use(use, self.scale.rewards if use.edits == REWARD else ONLY_BEST)
        if self.scale.ablations:
            for system in ABLATIONS:
                model = self._model(system.folder)
                yield self._evaluation(self._system(system.name, model, ONLY_BEST))
            yield Step("evaluate-challenging", (self._challenging(),))
            for guided in GUIDED_EDITS:
                conditions = guidance(self.words, guided.scale, guided.low)
                model = self._model(guided.system.folder)
                yield self._evaluation(self._system(guided.edits, model, ONLY_BEST, conditions))

    def _again(self, round_: Round) -> Iterator[Step]:
        if round_.data != MAIN_ROUND.data and round_.seed == 0:
            yield self._prepare(round_)
        for system in dict.fromkeys(use.system for use in self.uses):
            if self._trained_on(system, round_) == round_:
                yield from self._training(system, round_)
        for use in self.uses:
            yield self._use(use, ONLY_BEST, round_)

    def _use(self, use: Use, sweep: tuple[Scores, ...], round_: Round = MAIN_ROUND) -> Step:
        model = self._model(use.system.folder, self._trained_on(use.system, round_))
        rewards = sweep if use.system.reward else None
        scale = self.scale.reward_guidance_scale
        conditions = guidance(self.words, scale) if use.guided else None
        system = self._system(use.edits, model, rewards, conditions)
        return self._evaluation(system, round_, use.best_of)

    def _evaluation(self, system: SystemSpec, round_: Round = MAIN_ROUND, best_of: int = 1) -> Step:
        """By the exact judge, and by the judge who gave the rewards where that is another."""
        name = round_.name(f"evaluate-{system.name.replace(' ', '-')}")
        picker = round_.judged
        picking = _ONE_EDIT
        if best_of > 1:
            picking = BestOf(best_of, judge=picker.name, options=picker.options)
        benchmark, out = self.out / "toy" / "benchmark", self.results_of(round_)
        exact = self._real_edit(system, out, benchmark, best_of=picking)
        if not round_.judge:
            return Step(name, (exact,))
        if best_of == 1:
            condition = BEST if system.rewards else ""
            images = out / "edits" / exact.name / set_name(system.name, condition)
            system = SystemSpec(system.name, images=str(images), condition=condition, size="keep")
        out = self.results_of(round_, by_its_judge=True)
        judged = self._real_edit(system, out, benchmark, judge=picker, best_of=picking)
        return Step(name, (exact, judged))

    def _real_edit(
        self,
        system: SystemSpec,
        out: Path,
        benchmark: Path,
        judge: JudgeSpec = EXACT,
        best_of: BestOf = _ONE_EDIT,
    ) -> RealEdit:
        data = str(benchmark)
        return RealEdit(data=data, out=str(out), system=system, judge=judge, best_of=best_of)

    def _challenging(self) -> Challenging:
        toy = self.out / "toy"
        return Challenging(
            data=str(toy / "triplets"),
            reward_edit=str(toy / "RewardEdit.json"),
            rule="mean",
            count=300,
            out=str(self.results),
            system=self._system(REWARD, self._model(REWARD), ONLY_BEST),
            judge=JudgeSpec("toy"),
        )

    def _system(
        self,
        name: str,
        model: Path,
        rewards: tuple[Scores, ...] | None = None,
        conditions: EditConditions | None = None,
    ) -> SystemSpec:
        return SystemSpec(
            name,
            model=ModelSpec(model=str(model)),
            rewards=rewards,
            reward_texts=str(self.out / WORDS) if rewards else None,
            sampling=SamplingSettings(self.scale.sampling_steps),
            conditions=conditions or EditConditions(**GUIDANCE),
            size="keep",
            batch_size=_EDITS_AT_A_TIME,
        )

    def _trained_on(self, system: System, round_: Round) -> Round:
        """The round whose training serves this one: a judge's errors reach no other editor."""
        if system.reads_rewards:
            return round_
        return dataclasses.replace(round_, judge=MAIN_ROUND.judge)

    def _model(self, name: str, round_: Round = MAIN_ROUND) -> Path:
        return self.out / round_.folder / "models" / name
