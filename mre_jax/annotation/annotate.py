"""Scores and texts for every edit of a set: a judge is asked, and its answers become rewards."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from tqdm import tqdm

from mre_jax.annotation.compaction import MAY_CHANGE, Compaction, compact
from mre_jax.annotation.items import AUTO, Items, open_items
from mre_jax.annotation.questions import ask_about
from mre_jax.annotation.statistics import Statistics, collect
from mre_jax.data.bad_examples import (
    BadExample,
    BadExamplesError,
    allowed_bad,
    parse_skip_bad,
    report_bad,
)
from mre_jax.data.sources.selection import parse_shard
from mre_jax.data.stats_charts import write_charts
from mre_jax.errors import ConfigError, DataError, MreError
from mre_jax.io.growing_file import read_growing
from mre_jax.judges import estimate as estimates
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import BudgetError, Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.openai.judge import ModelJudge
from mre_jax.judges.outcome import Outcome
from mre_jax.judges.packs.pack import PACKS, load_pack
from mre_jax.judges.picture import AS_IS, PictureIndex, parse_encoding
from mre_jax.judges.question import Question
from mre_jax.judges.settings import difference
from mre_jax.judges.spec import JudgeSpec
from mre_jax.judges.verdict import FINAL, Verdict
from mre_jax.reward.file import Reward, write_rewards
from mre_jax.reward.stats import RewardStats

MODEL_PICTURE = "to-jpeg:95"
"""How pictures are sent to a model by default: a quarter of a PNG's bytes, a JPEG without loss."""

Log = Callable[[object], object]


@dataclasses.dataclass(frozen=True)
class AnnotateSpec:
    """What is asked about which set, and where the answers go.

    Attributes:
        data: a public set, a folder of `mre prepare` or of `mre toy`; without it, the journal is
            summed up.
        out: file to fill.
        rewards: file for the scores as RewardEdit_20K.json.
        charts: folder for scores.png, histograms of the scores, and words.png, a cloud of the
            texts.
        source: layout of the set: prepared, or one that `mre prepare` takes; auto knows it by
            what is there.
        options: options of the layout's reader.
        max_examples: end of the set, counted in examples.
        shard: part I, from 0, of N, in a journal of its own; these make one, one after the other.
        skip_bad: how many bad examples to leave out, or their share, as 0.01 or 1%. Without it all
            are listed, and nothing is asked behind the first.
        pack: prompts: paper-annotation, paper-evaluation, paired-quality-ours, viescore-ours,
            imgedit-ours, imgedit-uge-ours, editscore-ours, ins-align-ours, or a .toml file.
        picture: encoding of the pictures: as-is, to-jpeg:QUALITY (of all but JPEG files),
            jpeg:QUALITY or jpeg:QUALITY:HEIGHT; by default that of a journal that has begun, or
            to-jpeg:95 for a model and as-is for others.
        self_consistency: number of triplets to ask about twice.
        scenes: triplets of `mre toy` for the toy judge, if `data` has no scenes beside them.
        judge: who is asked.
    """

    data: epath.PathLike | None = dataclasses.field(default=None, metadata={"positional": True})
    out: epath.PathLike = dataclasses.field(kw_only=True, metadata={"metavar": "JOURNAL"})
    rewards: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FILE"})
    charts: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "DIR"})
    source: str = AUTO
    options: dict[str, Any] = dataclasses.field(default_factory=dict, metadata={"flag": "--option"})
    max_examples: int | None = None
    shard: str = dataclasses.field(default="0/1", metadata={"metavar": "I/N"})
    skip_bad: float = dataclasses.field(
        default=0, metadata={"metavar": "N", "parse": parse_skip_bad}
    )
    pack: str = PACKS[0]
    picture: str | None = None
    self_consistency: int = dataclasses.field(default=0, metadata={"metavar": "N"})
    scenes: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "DIR"})
    judge: JudgeSpec = dataclasses.field(default=JudgeSpec())


@dataclasses.dataclass(frozen=True)
class Annotation:
    """What a journal comes to.

    Attributes:
        journal: path of it.
        statistics: counts of its answers.
        usd: cost of all its requests in US dollars, those reserved included.
        compaction: rewards, where a file or charts of them were asked for; else None.
        files: what was written of them.
    """

    journal: str
    statistics: Statistics
    usd: float
    compaction: Compaction | None = None
    files: Sequence[str] = ()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        counts = self.statistics
        models = ", ".join(f"{name} ({count})" for name, count in counts.models.most_common())
        yield str(counts)
        yield f"{self.journal}: {counts.requests} requests, {self.usd:.2f} USD; by {models}"
        if self.compaction is None:
            return
        missing = self.compaction.incomplete
        left = f", {missing} items left out for want of an answer" if missing else ""
        for file in self.files:
            of = "of " if file.endswith(".png") else ""
            yield f"{file}: {of}{len(self.compaction.rewards)} rewards{left}"


def annotate(spec: AnnotateSpec, log: Log = lambda line: None) -> Annotation:
    """Asks what the journal does not answer yet, then sums it up.

    What the journal answers is not asked again, so the same call goes on after a stop.

    Example:
        With a folder of `mre toy`:

        >>> spec = AnnotateSpec("toy", out="toy.jsonl", judge=JudgeSpec("toy"))
        >>> annotate(spec).statistics.coverage("following")
        1.0

    Args:
        log: takes what there is to say before the end, a line or more at a time.

    Raises:
        BadExamplesError: if more examples are bad than may be left out; the others are asked about
            before the first of these.
        MreError: naming the option or file that is wrong, or why answers are lacking; the journal
            holds what was answered.
    """
    if spec.data is not None:
        _ask(_Set(spec), spec, log)
    elif spec.judge.name:
        raise _no_data()
    statistics = collect(spec.out)
    with Journal(spec.out) as journal:
        usd = journal.spent
    if not spec.rewards and not spec.charts:
        return Annotation(str(spec.out), statistics, usd)
    made = compact(spec.out)
    files = []
    if spec.rewards:
        write_rewards(spec.rewards, made.rewards)
        files.append(str(spec.rewards))
    if spec.charts:
        files += map(str, _draw(made.rewards.values(), spec.charts))
    return Annotation(str(spec.out), statistics, usd, made, files)


def estimate(spec: AnnotateSpec, log: Log = lambda line: None) -> estimates.Estimate:
    """What `annotate` would take; nothing is sent, and nothing written.

    Args:
        log: takes the estimate too, before bad examples are an error.

    Raises:
        as `annotate`.
    """
    if spec.data is None:
        raise _no_data()
    asked = _Set(spec, offline=True)
    for note in asked.notes():
        log(note)
    known = estimates.answered_keys(spec.out)
    questions = asked.questions(index=PictureIndex.read(spec.out), allowed=asked.items.count)
    found = estimates.estimate(asked.judge, questions, known)
    log(found)
    asked.report_bad(spec.out, log)
    return found


class _Set:
    """A set and who is asked about it.

    Attributes:
        judge: who is asked.
        items: what is asked about.
        encoding: of the pictures that are sent.
        bad: items that nothing can be asked about, as far as they are read.
        allowed: how many of these are left out.
        questions: asks about all; see `ask_about`.
        total: questions without repetitions.
    """

    def __init__(self, spec: AnnotateSpec, *, offline: bool = False):
        assert spec.data is not None  # noqa: S101 (the caller has looked)
        pack = load_pack(spec.pack)
        self.judge: Judge = spec.judge.make(offline=offline)
        self.encoding = parse_encoding(spec.picture or _usual_picture(self.judge, spec.out))
        self.items: Items = open_items(
            spec.data, spec.source, spec.options, spec.max_examples, parse_shard(spec.shard)
        )
        count = self.items.count
        if not 0 <= spec.self_consistency <= count:
            raise ConfigError(
                f"--self-consistency {spec.self_consistency}: want 0 to {count}, the triplets"
            )
        self.bad: list[BadExample] = []
        self.allowed = allowed_bad(spec.skip_bad, count)
        self.total = count * len(pack.perspectives)
        self.questions: Callable[..., Iterator[Question]] = functools.partial(
            ask_about,
            self.items,
            pack,
            self.encoding,
            toy=self.judge.name == "toy",
            twice=spec.self_consistency,
            bad=self.bad,
            scenes=spec.scenes,
        )

    def notes(self) -> Iterator[str]:
        """What is to be said before anything is asked."""
        yield from self.items.notes
        if isinstance(self.judge, ModelJudge):
            yield f"pictures are sent as {self.encoding}"

    def report_bad(self, out: str, log: Log) -> None:
        """Lists what was left out; an error if that is more than may be, or all there is."""
        if len(self.bad) > self.allowed or len(self.bad) == self.items.count:
            raise BadExamplesError(self.items.path, self.bad, self.allowed, self.items.count)
        if self.bad:
            log(f"left out {len(self.bad)} bad examples:")
            for line in report_bad(self.bad, out):
                log(line)


def _usual_picture(judge: Judge, journal: epath.PathLike) -> str:
    """The encoding where none is asked for; other pictures would be paid for once more."""
    begun = _begun(journal)
    if begun is not None:
        return str(begun.get("pictures", AS_IS))
    return MODEL_PICTURE if isinstance(judge, ModelJudge) else AS_IS


def _begun(journal: epath.PathLike) -> Mapping[str, Any] | None:
    """The settings of a journal's first answer; None if it has none."""
    for line in read_growing(journal) if epath.Path(journal).exists() else ():
        if line.row.get("kind") == "verdict" and line.row.get("status") in FINAL:
            return dict(line.row.get("settings", {}))
    return None


def _check_begun(asked: _Set, journal: epath.PathLike) -> None:
    """Refuses to ask for more in another way than the journal began: it would make no rewards."""
    planned = {**asked.judge.used, "pictures": str(asked.encoding)}
    begun = {name: value for name, value in (_begun(journal) or {}).items() if name in planned}
    known = {name: v for name, v in planned.items() if name in begun and v != "auto"}
    found = difference({name: begun[name] for name in known}, known, MAY_CHANGE)
    if found:
        raise DataError(
            f"{journal}: it began with {found.field} {found.one!r}, not {found.other!r}; go on "
            "with the same, or take another --out"
        )


def _ask(asked: _Set, spec: AnnotateSpec, log: Log) -> None:
    """Fills the journal, and raises what keeps it from being full."""
    for note in asked.notes():
        log(note)
    _check_begun(asked, spec.out)
    outcome = Outcome()
    with (
        Journal(spec.out) as journal,
        PictureIndex(spec.out) as index,
        tqdm(total=asked.total, unit="answer", desc="annotate", disable=None) as bar,
    ):

        def handle(verdict: Verdict) -> bool:
            bar.update(not verdict.repeat)
            outcome.add(verdict)
            return verdict.status != "budget_stopped"

        run_all(
            asked.judge,
            asked.questions(index=index, allowed=asked.allowed),
            journal,
            handle,
            concurrency=spec.judge.concurrency,
            budget=spec.judge.budget(),
            again=spec.judge.again,
        )
        failure = _failure(spec, outcome, journal)
    if outcome.statuses and (failure or len(asked.bad) > asked.allowed):
        log(collect(spec.out))
    asked.report_bad(spec.out, log)
    if failure:
        raise failure


def _failure(spec: AnnotateSpec, outcome: Outcome, journal: Journal) -> MreError | None:
    """What a run that was not answered in full ends with."""
    if not outcome.statuses["budget_stopped"]:
        return outcome.failure()
    return BudgetError(
        f"--max-usd {spec.judge.max_usd}: {journal.spent:.2f} USD are spent or may be, and the "
        "next question is not covered; give more to go on"
    )


def _no_data() -> ConfigError:
    return ConfigError("no DATA to annotate: give a set, or --out and --rewards alone")


def _draw(rewards: Iterable[Reward], folder: str) -> Sequence[epath.Path]:
    """Draws what `mre data stats` draws of a prepared set."""
    stats = RewardStats()
    for reward in rewards:
        stats.add_reward(reward.scores, reward.texts)
    return write_charts(folder, stats)
