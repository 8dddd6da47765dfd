"""What `mre evaluate judge` is asked for: a judge held to people's judgements.

OUT/pictures/              pictures of public sets
OUT/JUDGE-PACK-SET/        a judge's answers and journal, and judge.json: what they come to
OUT/JUDGE-PACK-SET/repeat-1/   its answers when it is asked again
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.data.triplets import safe_name
from mre_jax.errors import ConfigError
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.edits.bucket import check_local
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, check_pictures
from mre_jax.evaluation.judging import judge_edits
from mre_jax.evaluation.meta.human_set import OVERALL, HumanSet, cases_of, read_people
from mre_jax.evaluation.meta.measure import measure_choices, measure_scores
from mre_jax.evaluation.meta.pair_sets import read_pair_set
from mre_jax.evaluation.meta.record import JudgeRecord, judge_tables, read_records
from mre_jax.evaluation.pairs.judging import Extras, ask_about_pairs, judge_pairs
from mre_jax.evaluation.provenance import describe
from mre_jax.evaluation.questions import ask_about
from mre_jax.evaluation.results import FILE, PAIRS, Result
from mre_jax.evaluation.results_file import opened
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.suite import check_complete
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.evaluation.tables.table import Table
from mre_jax.io.growing_file import GrowingFile, read_growing
from mre_jax.judges.estimate import Estimate, answered_keys, estimate
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import PromptPack, load_pack
from mre_jax.judges.spec import JudgeSpec

JOURNAL = "judge.jsonl"
TIMES = "times.jsonl"
"""How long the runs of a judge took: answers, and seconds."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JudgeEvaluation:
    """A judge before pairs of edits of which people have said which is better, or scored.

    Attributes:
        data: a public set of pairs (EditReward-Bench of EditScore or of TIGER-Lab,
            EditReward-Data); or people's scores as CSV, with --results.
        out: folder of the judges' answers and records, for any number of judges.
        results: with people's scores, files or folders of `mre evaluate` that say where the edits
            are; may be repeated.
        suite: the suite that people scored.
        split: split of a set that has several.
        pack: prompts that score edits or that compare them.
        pictures: way to send pictures: as-edited, as-released, as-original, as-is,
            jpeg:QUALITY[:HEIGHT].
        pairs: take the first so many pairs.
        repeats: times that every question is asked.
        scenes: the toy benchmark that the edits are of, for the judge toy.
        draws: draws of the bootstrap.
        judge: who is measured.

    Raises:
        ConfigError: for a count below 1, or an output in a bucket.

    Example:
        Somebody prefers one of two edits that are the same, which a judge cannot:

        >>> from mre_jax import JudgeSpec, RealEdit, SystemSpec
        >>> judge = JudgeSpec("toy")
        >>> for name in ("a", "b"):
        ...     system = SystemSpec(name, images="edits")
        ...     suite = RealEdit(data="toy/benchmark", out="judged", system=system, judge=judge)
        ...     _ = suite.evaluate()
        >>> with open("people.csv", "w") as file:
        ...     print("system,item,perspective,score", file=file)
        ...     print("a,000-1,quality,5", "b,000-1,quality,2", sep="\\n", file=file)
        >>> evaluation = JudgeEvaluation(
        ...     data="people.csv", results=("judged",), out="judges", scenes="toy/benchmark",
        ...     judge=judge,
        ... )
        >>> (found,) = evaluation.evaluate().agreements
        >>> found.perspective, found.pairs, found.decided.value, found.ties.value
        ('quality', 1, 0.5, 1.0)
    """

    data: epath.PathLike = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike
    results: tuple[str, ...] = dataclasses.field(default=(), metadata={"metavar": "RESULTS"})
    suite: str | None = None
    split: str | None = None
    pack: str = "gedit-v2-ours"
    pictures: str = AS_EDITED
    pairs: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    repeats: int = 1
    scenes: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FOLDER"})
    draws: int = Bootstrap.draws
    judge: JudgeSpec

    def __post_init__(self) -> None:
        check_local(self.out)
        for name in ("pairs", "repeats"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"--{name} {value}: want 1 or more")

    def human_set(self) -> HumanSet:
        """The people's judgements.

        Raises:
            DataError: as `read_people` and `read_pair_set`.
        """
        if self.results:
            found = read_people(self.data, self.results, self.suite)
        else:
            found = read_pair_set(self.data, Path(self.out) / "pictures", split=self.split)
        return found.first(self.pairs)

    def evaluate(self) -> JudgeRecord:
        """Asks the judge, and keeps what its answers come to; nothing is asked or paid for twice.

        Raises:
            MreError: naming the option, picture or answer that is wrong.
        """
        human = self.human_set()
        pack = _needed(load_pack(self.pack), human)
        judge = self._judge(pack)
        folder = self._folder(judge, pack, human)
        folder.mkdir(parents=True, exist_ok=True)
        runs = []
        with Journal(folder / JOURNAL) as journal:
            for repeat in range(self.repeats):
                if repeat:
                    judge = self._judge(pack)  # the last run has closed its connections
                with _timed(folder, journal):
                    runs.append(self._run(human, pack, judge, journal, folder, repeat))
            usd = journal.spent / max(_count(journal), 1)
        measure = measure_choices if pack.pairwise else measure_scores
        record = JudgeRecord(
            judge=self._label(judge, pack),
            human_set=human.name,
            measured="; ".join(dict.fromkeys(describe(r) for r in runs[0] if r.status == "ok")),
            agreements=measure(human, runs, Bootstrap(self.draws)),
            usd=usd,
            seconds=_seconds(folder),
        )
        record.write(folder)
        check_complete([row for run in runs for row in run])
        return record

    def tables(self) -> list[Table]:
        """All judges of the output folder side by side."""
        return judge_tables(read_records(Path(self.out)))

    def estimate(self) -> Estimate:
        """What asking would take, once.

        Raises:
            ConfigError: if the judge sends nothing to anybody.
        """
        human = self.human_set()
        pack = _needed(load_pack(self.pack), human)
        pictures, judge = check_pictures(self.pictures), self._judge(pack, offline=True)
        edits = human.edits
        questions = (
            ask_about_pairs(human.pairs, pack, pictures)
            if pack.pairwise
            else ask_about(
                cases_of(edits), {k: edit.edited for k, edit in edits.items()}, pack, pictures
            )
        )
        folder = self._folder(judge, pack, human)
        return estimate(judge, questions, answered_keys(folder / JOURNAL))

    def _run(
        self,
        human: HumanSet,
        pack: PromptPack,
        judge: Judge,
        journal: Journal,
        folder: Path,
        repeat: int,
    ) -> list[Result]:
        """The rows of all questions, asked once."""
        place = folder / f"repeat-{repeat}" if repeat else folder
        asked: dict[str, Any] = {
            "judge": judge,
            "pack": pack,
            "journal": journal,
            "pictures": check_pictures(self.pictures),
            "concurrency": self.judge.concurrency,
            "budget": self.judge.budget(),
            "again": self.judge.again,
            "repeat": repeat,
        }
        extras = self._extras()
        with opened(place, PAIRS if pack.pairwise else FILE) as results:
            if pack.pairwise:
                judge_pairs(human.pairs, results, extras=extras, **asked)
            else:
                judge_edits(_edit_set(human, place, extras), results, **asked)
            return list(results.rows.values())

    def _judge(self, pack: PromptPack, *, offline: bool = False) -> Judge:
        judge = self.judge.make(pack.settings, offline=offline)
        if isinstance(judge, HumanJudge):
            raise ConfigError(
                f"judge {judge.name}: people are who judges are held to; name a model"
            )
        return judge

    def _folder(self, judge: Judge, pack: PromptPack, human: HumanSet) -> Path:
        return Path(self.out) / safe_name(f"{self._label(judge, pack)} {human.name}")

    def _label(self, judge: Judge, pack: PromptPack) -> str:
        """What tables call the judge: its name, the prompts, and options that the user set."""
        options = (f"{name}={value}" for name, value in sorted(self.judge.options.items()))
        return " ".join([judge.name, Path(pack.name).stem, *options])

    def _extras(self) -> Extras:
        if self.scenes is None:
            return {}
        return {case.id: case.extra for case in read_real_edit(Path(self.scenes))}


def _needed(pack: PromptPack, human: HumanSet) -> PromptPack:
    """The pack with those perspectives alone that people have judged.

    Raises:
        ConfigError: if there is none.
    """
    if OVERALL in human.perspectives and OVERALL not in pack.perspectives:
        return pack  # all of them together
    wanted = [name for name in pack.perspectives if name in human.perspectives]
    if not wanted:
        raise ConfigError(
            f"prompt pack {pack.name}: asks about {', '.join(pack.perspectives)}, and people of "
            f"{human.name} about {', '.join(human.perspectives)}; take another pack"
        )
    return dataclasses.replace(
        pack,
        prompts={name: pack.prompts[name] for name in wanted if name in pack.prompts},
        types={name: pack.types[name] for name in wanted if name in pack.types},
    )


def _edit_set(human: HumanSet, folder: Path, extras: Extras) -> EditSet:
    edits = human.edits
    cases = [
        dataclasses.replace(case, extra=extras.get(edits[case.id].row.item, {}))
        for case in cases_of(edits)
    ]
    pictures = {name: edit.edited for name, edit in edits.items()}
    return EditSet(human.name, "edits", "", "", folder, cases, pictures)


@contextlib.contextmanager
def _timed(folder: Path, journal: Journal) -> Iterator[None]:
    """Notes how long it took to get the answers that were not there before."""
    before, start = _count(journal), time.monotonic()
    yield
    new = _count(journal) - before
    if new > 0:
        with GrowingFile(folder / TIMES) as file:
            file.append({"answers": new, "seconds": time.monotonic() - start})


def _count(journal: Journal) -> int:
    """Answers that were asked for: of a model without those that another's answer served for."""
    requests = [verdict.requests for verdict in journal.verdicts()]
    return sum(map(bool, requests)) or len(requests)


def _seconds(folder: Path) -> float | None:
    """Seconds an answer, over all runs."""
    if not (folder / TIMES).exists():
        return None
    rows: Sequence[dict[str, float]] = [line.row for line in read_growing(folder / TIMES)]
    return sum(row["seconds"] for row in rows) / sum(row["answers"] for row in rows)
