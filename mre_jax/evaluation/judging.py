"""Edits of a benchmark before a judge: questions out, result rows in."""

import dataclasses
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mre_jax.data.sources.selection import parse_shard
from mre_jax.data.sources.selection import select as select_part
from mre_jax.errors import ConfigError
from mre_jax.evaluation.best_of import JOURNAL, BestOf, pick_best
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, check_pictures
from mre_jax.evaluation.in_order import TOGETHER, InOrder
from mre_jax.evaluation.preset import PRESETS, Preset
from mre_jax.evaluation.questions import ask_about, repeated
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.results_file import ResultsFile, opened
from mre_jax.evaluation.suite import Pictures, Suite
from mre_jax.evaluation.system import Scores
from mre_jax.judges.asking import run_all
from mre_jax.judges.estimate import Estimate, answered_keys, estimate
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import OURS, PromptPack, load_pack
from mre_jax.judges.picture import PictureIndex
from mre_jax.judges.spec import JudgeSpec
from mre_jax.judges.verdict import Verdict

if TYPE_CHECKING:
    from mre_jax.evaluation.edits.editor import Editor


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgedSuite(Suite):
    """A benchmark whose edits are judged.

    Attributes:
        pack: prompts: paper-annotation, paper-evaluation, paired-quality-ours, viescore-ours,
            imgedit-ours, imgedit-uge-ours, editscore-ours, ins-align-ours, a .toml file, or
            official:PATH of your copy of the authors' own; by default those of the suite, or of the
            preset.
        pictures: way to send pictures: as-edited, as-edited-jpeg, as-released, as-original, as-is,
            to-jpeg:QUALITY, jpeg:QUALITY[:HEIGHT]; by default as the preset says.
        shard: with --images, judge part I, from 0, of N of the items, in an --out of its own; `mre
            tables` and `mre report` take all of these.
        judge: who judges.
        best_of: several edits of each item, of which a judge picks one.
    """

    pack: str | None = None
    pictures: str | None = None
    shard: str = dataclasses.field(default="0/1", metadata={"metavar": "I/N"})
    judge: JudgeSpec
    best_of: BestOf = dataclasses.field(
        default_factory=BestOf, metadata={"title": "best of several edits"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.best_of.count > 1 and self.system.images:
            raise ConfigError(
                f"--best-of {self.best_of.count} makes edits with --model; those of --images are "
                "there already"
            )
        if parse_shard(self.shard)[1] > 1 and not self.system.images:
            raise ConfigError(
                f"--shard {self.shard}: only edits that are there are judged in parts; make them "
                "by `mre sample --shard`, and give --images"
            )

    @property
    def default_pack(self) -> str:
        """The prompts where the user names none."""
        return self._preset.pack

    def evaluate(self) -> list[Result]:
        """See `Suite.evaluate`."""
        pack, pictures = self._prompts(), self._pictures()
        _ = self.parts
        judge = self._judge(pack)  # a missing key is found before hours of editing
        with opened(self.out) as results, Journal(Path(self.out) / "judge.jsonl") as journal:
            for index, edits in enumerate(self.edit_sets()):
                if index and not isinstance(judge, HumanJudge):
                    judge = self._judge(pack)  # the last run has closed its connections
                judge_edits(
                    edits,
                    results,
                    judge=judge,
                    pack=pack,
                    journal=journal,
                    pictures=pictures,
                    concurrency=self.judge.concurrency,
                    budget=self.judge.budget(),
                    again=self.judge.again,
                )
            return select(self._rows(results), people=isinstance(judge, HumanJudge))

    def chosen(
        self, editor: "Editor", folder: Path, reward: Scores | None
    ) -> tuple[Pictures, dict[str, Any]]:
        """See `Suite.chosen`; picked by a judge where several are asked for."""
        if self.best_of.count == 1:
            return super().chosen(editor, folder, reward)
        pack, spec = self._prompts(), self.best_of.spec(self.judge)
        settings = {**self._preset.settings, **pack.settings}
        first = editor.spec.conditions.seed
        made = [
            self.make(
                editor.with_seed(seed),
                folder if seed == first else folder.with_name(f"{folder.name}-seed-{seed}"),
                reward,
            )
            for seed in range(first, first + self.best_of.count)
        ]
        picked = {}
        with Journal(Path(self.out) / JOURNAL) as journal:
            for part, cases in self.parts.items():
                judge = spec.make(settings)  # another's connections are closed
                picked[part] = pick_best(
                    [pictures[part] for pictures in made],
                    cases,
                    judge=judge,
                    pack=pack,
                    journal=journal,
                    pictures=self._pictures(),
                    concurrency=spec.concurrency,
                    budget=spec.budget(),
                )
        return picked, self.best_of.recorded(judge)

    def estimate(self) -> Estimate:
        """What judging would take; edits that are not made yet count as their originals.

        What a judge takes that picks the best of several is not in it.

        Raises:
            ConfigError: if the judge sends nothing to anybody.
        """
        pack, pictures = self._prompts(), self._pictures()
        judge = self._judge(pack, offline=True)
        journal = Path(self.out) / "judge.jsonl"
        index = PictureIndex.read(journal)
        if (folder := self.system.folder(Path(self.out))) is not None:
            edited = self.found(folder)
        else:
            edited = {
                part: {case.id: case.original for case in cases}
                for part, cases in self.parts.items()
            }
        questions = (
            question
            for part, cases in self.parts.items()
            for question in ask_about(
                [case for case in self._share(cases) if case.id in edited[part]],
                edited[part],
                pack,
                pictures,
                index,
            )
        )
        return estimate(judge, questions, answered_keys(journal))

    def notes(self) -> list[str]:
        """See `Suite.notes`."""
        pack = self._prompts()
        own = pack.name.endswith(OURS)
        by_preset = not self.pack and self.default_pack == self._preset.pack
        notes = [self._preset.note] if by_preset and self._preset.note else []
        if self.best_of.count > 1:
            notes.append(
                f"--best-of {self.best_of.count}: the judge that picks is asked about each of as "
                "many edits; --dry-run does not count that"
            )
        return [*notes, *([f"{pack.name}: {pack.description}"] if own else [])]

    def _sets(self, *made: Any, **named: Any) -> Iterator[EditSet]:
        """See `Suite._sets`; of each this shard's cases."""
        for edits in super()._sets(*made, **named):
            yield dataclasses.replace(edits, cases=self._share(edits.cases))

    def _share(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The cases of this shard."""
        part = select_part(len(cases), shard=parse_shard(self.shard))
        return cases[part.start : part.stop]

    @property
    def _preset(self) -> Preset:
        return PRESETS[self.preset]

    def _prompts(self) -> PromptPack:
        pack = load_pack(self.pack or self.default_pack)
        if pack.pairwise:  # found before hours of editing
            raise ConfigError(
                f"prompt pack {pack.name}: compares two edits; mre evaluate pairwise takes it"
            )
        return pack

    def _pictures(self) -> str:
        return check_pictures(self.pictures or self._preset.pictures)

    def _judge(self, pack: PromptPack, *, offline: bool = False) -> Judge:
        """The judge; of a model what the spec leaves open is as the prompts' authors had it."""
        return self.judge.make({**self._preset.settings, **pack.settings}, offline=offline)


def judge_edits(
    edits: EditSet,
    results: ResultsFile,
    *,
    judge: Judge,
    pack: PromptPack,
    journal: Journal,
    pictures: str = AS_EDITED,
    concurrency: int = 8,
    budget: Budget | None = None,
    again: Collection[str] = (),
    repeat: int = 0,
) -> None:
    """Has every edit judged in every perspective of the pack, and writes a row for each.

    Rows stand in the order of the cases, in whichever order the answers come. Whatever the journal
    holds is not asked again. A case without a picture is "missing".

    Args:
        pictures: way to send them; see `sent_pictures`.
        again: statuses that are asked again though they are final.
        repeat: number of a repetition, whose questions are asked anew.

    Raises:
        DataError: if the results hold scores of other settings; nothing is asked then.
        MreError: as `judges.asking.run_all`.
    """
    people = isinstance(judge, HumanJudge)
    if isinstance(judge, HumanJudge):
        tqdm.write(judge.judging(edits.system, edits.condition), file=sys.stderr)
    planned = provenance_of(judge, pack, pictures)

    def missing(case: Case, perspective: str) -> Result:
        hash_ = pack.hash(perspective)
        return edits.row(case, perspective, prompt_hash=hash_, provenance=planned, people=people)

    results.check_settings(
        [missing(case, name) for case in edits.cases[:1] for name in pack.perspectives]
    )
    present = {case.id: case for case in edits.made}
    rows = InOrder((case.id, name) for case in edits.cases for name in pack.perspectives)
    for case in edits.cases:
        if case.id not in present:
            for perspective in pack.perspectives:
                rows.put((case.id, perspective), missing(case, perspective))
    total = len(present) * len(pack.perspectives)
    with (
        PictureIndex(journal.path) as index,
        tqdm(total=total, unit="answer", desc=edits.name, disable=None) as bar,
    ):

        def take(verdict: Verdict) -> None:
            hash_ = pack.hash(verdict.perspective)
            row = _row(edits, present[verdict.item], verdict, hash_, planned)
            rows.put((row.item, row.metric), row)
            if len(rows.ready) >= TOGETHER:
                results.add(rows.take())
            bar.update()

        try:
            run_all(
                judge,
                repeated(ask_about(edits.made, edits.pictures, pack, pictures, index), repeat),
                journal,
                take,
                concurrency=concurrency,
                budget=budget,
                again=again,
            )
        finally:
            results.add(rows.take())


def provenance_of(judge: Judge, pack: PromptPack, pictures: str) -> dict[str, Any]:
    """What will decide a judge's scores besides the edits; see `evaluation.provenance`.

    What the judge finds out with its first requests ("auto") is left to the verdicts.
    """
    settings = {**judge.used, **judge.settings}
    known = {name: value for name, value in settings.items() if value != "auto"}
    return {**known, "pictures": pictures, "pack": pack.name}


def _row(
    edits: EditSet, case: Case, verdict: Verdict, prompt_hash: str, planned: Mapping[str, Any]
) -> Result:
    """The row of a verdict; one from an old journal is known by its key to be as planned."""
    return edits.row(
        case,
        verdict.perspective,
        None if verdict.score is None else float(verdict.score),
        passed=verdict.passed,
        status=verdict.status,
        measure=verdict.model,
        prompt_hash=prompt_hash,
        reason=verdict.text,
        provenance=dict(verdict.settings or planned),
        people=verdict.people,
    )
