"""The stages of a round: each a call of the room that does it, done when its last file is there."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mre_jax.annotation.annotate import AnnotateSpec, annotate
from mre_jax.data.prepare import PrepareSpec, prepare
from mre_jax.data.records import manifest
from mre_jax.data.records.record_source import RecordSource
from mre_jax.editing.model_spec import ModelSpec
from mre_jax.editing.sample import EditsFailed, sample
from mre_jax.editing.spec import SampleSpec
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.results import FILE, Result, read_results, select
from mre_jax.evaluation.suite import check_complete
from mre_jax.evaluation.suites.real_edit import SUITE, RealEdit
from mre_jax.evaluation.system import SystemSpec
from mre_jax.improvement.mixture import Mixture, mix, trained_on
from mre_jax.improvement.own_edits import (
    NAME,
    TABLE,
    choose,
    edit_rows,
    judged_rows,
    write_items,
)
from mre_jax.improvement.spec import ImproveSpec
from mre_jax.io.files import write_atomically
from mre_jax.io.json_file import to_line
from mre_jax.judges.journal import BudgetError, Journal
from mre_jax.judges.spec import JudgeSpec
from mre_jax.judges.verdict import FINAL
from mre_jax.reward.scores import PERSPECTIVES
from mre_jax.training.config import TrainConfig
from mre_jax.training.export import ExportSpec, export
from mre_jax.training.train import train

Log = Callable[[object], object]

_JOURNAL = "judge.jsonl"


@dataclasses.dataclass(frozen=True)
class Stages:
    """What each round of a loop does, and where.

    Attributes:
        config: the training of each round.
        spec: what is asked of the loop.
        sources: sets of `config.data.paths`.
        log: takes what there is to say on the way.
    """

    config: TrainConfig
    spec: ImproveSpec
    sources: Sequence[RecordSource]
    log: Log

    @property
    def out(self) -> Path:
        """The folder of the loop."""
        return Path(self.spec.out)

    def folder(self, number: int) -> Path:
        """The folder of a round, from 1."""
        return self.out / f"round-{number}"

    def model(self, number: int) -> str:
        """The model of a round; of round 0 the one that the loop began with."""
        return str(self.folder(number) / "model") if number else self.config.model.init_from

    def own_set(self, number: int) -> Path:
        """The own edits of a round, as shards."""
        return self.folder(number) / "set"

    @property
    def results(self) -> Path:
        """The file of all held-out results."""
        return self.out / "evaluation" / FILE

    def held_out(self) -> Sequence[Case]:
        """The held-out cases.

        Raises:
            DataError: as `read_real_edit`.
        """
        return self._suite("start", self.model(0), self.spec.judge).parts[SUITE]

    def sample(self, number: int) -> None:
        """Has the model of the round before edit pictures of training examples."""
        folder = self.folder(number) / "samples"
        if (folder / "results.jsonl").exists():
            return
        spec, items = self.spec, folder / "items.jsonl"
        if not items.exists():
            sizes = [len(source) for source in self.sources]
            chosen = choose(sizes, spec.edits, seed=self.config.seed, round=number)
            write_items(folder, self.sources, chosen, spec, number)
        asked = SampleSpec(
            items=items,
            out=folder,
            model=self._model_spec(self.model(number - 1)),
            sampling=spec.sampling,
            conditions=spec.conditions,
            size="keep",
            batch_size=spec.batch_size,
        )
        try:
            sample(asked)
        except EditsFailed as error:
            self.log(f"{len(error.reasons)} edits failed and are left out: {folder}/failed.jsonl")

    def judge(self, number: int) -> None:
        """Has the edits of a round judged."""
        folder = self.folder(number) / "scores"
        if (folder / "judged.jsonl").exists():
            return
        folder.mkdir(exist_ok=True)
        rows = edit_rows(self.folder(number) / "samples")
        write_atomically(folder / "edits.jsonl", "".join(map(to_line, rows)))
        with self._ceiling(folder / _JOURNAL) as judge:
            found = annotate(
                AnnotateSpec(
                    str(folder / "edits.jsonl"),
                    out=folder / _JOURNAL,
                    rewards=folder / "rewards.json",
                    source="table",
                    options=dict(TABLE),
                    pack=self.spec.pack,
                    picture=self.spec.picture,
                    scenes=self.spec.scenes,
                    judge=judge,
                ),
                self.log,
            )
        assert found.compaction is not None  # noqa: S101 (rewards were asked for)
        judged = judged_rows(rows, found.compaction.rewards, found.compaction.model)
        write_atomically(folder / "judged.jsonl", "".join(map(to_line, judged)))

    def prepare(self, number: int) -> int:
        """Writes the judged edits of a round as shards, and returns how many they are."""
        folder = self.own_set(number)
        if (folder / manifest.FILE).exists():
            return manifest.load_manifest(folder).count
        scores = self.folder(number) / "scores"
        spec = PrepareSpec(
            "table",
            scores / "judged.jsonl",
            out=folder,
            options=dict(TABLE),
            rewards=scores / "rewards.json",
            reward_key="folder",
            none_for_top=self.config.data.none_for_top,
            name=NAME,
        )
        cache = next((one.cache for one in self.sources if one.cache is not None), None)
        if cache is not None and self.config.data.cache != "never":
            spec = dataclasses.replace(
                spec,
                cache=self.config.model.init_from,
                base=self.config.model.base,
                cached=cache.options,
                none_for_top=cache.options.none_for_top,
            )
        return prepare(spec, self.log).manifest.count

    def mixture(self, number: int) -> tuple[Mixture, Sequence[str]]:
        """How the own edits of all rounds up to this one are trained on; and those that are."""
        data = self.config.data
        sizes = [trained_on(source, data.min_score) for source in self.sources]
        own = [RecordSource(self.own_set(one)) for one in range(1, number + 1)]
        found = {str(one.path): trained_on(one, data.min_score, may_lack=True) for one in own}
        for path in (path for path, size in found.items() if not size):
            self.log(f"{path}: no edit reaches data.min_score={data.min_score:g}; it is left out")
        used = {path: size for path, size in found.items() if size}
        share = self.spec.max_own_share
        mixed = mix(sizes, [*used.values()], weights=data.weights, max_own_share=share)
        return mixed, [*used]

    def train(
        self, number: int, begun_with: str, folder: Path, mixture: Mixture, own: Sequence[str]
    ) -> None:
        """Trains from a model on the sets and own edits, and exports what came of it.

        Args:
            number: of the round, which decides in which order the examples are read.
            begun_with: the model.
            folder: where run/ and model/ are made.
        """
        if (folder / "model").exists():
            return
        data, model = self.config.data, self.config.model
        config = dataclasses.replace(
            self.config,
            name=f"{self.config.name}, {folder.relative_to(self.out)}",
            seed=(self.config.seed + number - 1) % 2**32,
            model=dataclasses.replace(
                model, init_from=begun_with, base=self._model_spec(begun_with).base
            ),
            data=dataclasses.replace(data, paths=(*data.paths, *own), weights=mixture.weights),
        )
        export(ExportSpec(train(config, folder / "run").path, folder / "model"))

    def score(self, name: str, model: str) -> list[Result]:
        """Held-out results of a model, all of them."""
        rows = select(read_results(self.results), system=name) if self.results.exists() else []
        final = [row for row in rows if row.status in {*FINAL} - {*self.spec.judge.again}]
        if len(final) == len(self.held_out()) * len(PERSPECTIVES):
            return rows
        with self._ceiling(self.results.parent / _JOURNAL) as judge:
            rows = self._suite(name, model, judge).evaluate()
            check_complete(rows)
        return rows

    def spent(self, without: Path | None = None) -> float:
        """US dollars in all journals of the loop but one."""
        journals = [self.results.parent / _JOURNAL]
        journals += sorted(self.out.glob(f"round-*/scores/{_JOURNAL}"))
        spent = 0.0
        for path in journals:
            if path != without and path.exists():
                with Journal(path) as journal:
                    spent += journal.spent
        return spent

    @contextlib.contextmanager
    def _ceiling(self, journal: Path) -> Iterator[JudgeSpec]:
        """The judge for a block that writes one journal: what all others spent is gone."""
        others = self.spent(without=journal)
        try:
            yield self.spec.judge.after(others)
        except BudgetError:
            raise BudgetError(
                f"--max-usd {self.spec.judge.max_usd:g}: {self.spent():.2f} USD are spent or may "
                f"be in all of {self.out}, and the next question is not covered; give more to go on"
            ) from None

    def _suite(self, name: str, model: str, judge: JudgeSpec) -> RealEdit:
        """The held-out benchmark, of one model."""
        spec = self.spec
        system = SystemSpec(
            name,
            model=self._model_spec(model),
            sampling=spec.sampling,
            conditions=spec.conditions,
            size=spec.size,
            resolution=spec.resolution,
            batch_size=spec.batch_size,
        )
        return RealEdit(data=spec.held_out, out=self.results.parent, system=system, judge=judge)

    def _model_spec(self, model: str) -> ModelSpec:
        own = self.config.model
        return ModelSpec(
            model=model,
            base=own.base if model == own.init_from else None,
            dtype=own.compute_dtype,
            attention=own.attention,
        )
