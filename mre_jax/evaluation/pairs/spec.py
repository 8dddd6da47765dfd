"""What `mre evaluate pairwise` is asked for: edits that are there already, compared two by two."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.evaluation.edits.bucket import check_local
from mre_jax.evaluation.edits.sent_pictures import AS_EDITED, check_pictures
from mre_jax.evaluation.pairs.judging import Extras, ask_about_pairs, judge_pairs
from mre_jax.evaluation.pairs.pair import Pair, choose_items, choose_systems, pairs_of, read_edits
from mre_jax.evaluation.results import PAIRS, Result, results_file, select
from mre_jax.evaluation.results_file import opened
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.pairs import pair_lines
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.judges.estimate import Estimate, answered_keys, estimate
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import Judge
from mre_jax.judges.others.human import HumanJudge
from mre_jax.judges.packs.pack import OURS, PromptPack, load_pack
from mre_jax.judges.spec import JudgeSpec

JOURNAL = "pairs-judge.jsonl"
"""What the judge said of pairs, in the output folder."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairwiseSpec:
    """Which edits are compared, two of an item at a time and in both orders, and by whom.

    Attributes:
        results: files or folders of `mre evaluate`, which say where the edits are.
        out: folder of pairs.jsonl and of the journal; by default that of the first results.
        pack: prompts: gedit-v2-ours (following, preserving, quality), genarena-ours (one choice),
            or a .toml file.
        pictures: way to send pictures: as-edited, as-released, as-original, as-is,
            jpeg:QUALITY[:HEIGHT].
        systems: system to compare, as SYSTEM or SYSTEM@REWARD; may be repeated (default: all).
        baseline: compare each system with this one alone, as SYSTEM or SYSTEM@REWARD.
        suite: compare edits of this suite alone.
        items: compare on so many items of each suite, drawn by --seed, the same for all pairs.
        seed: seed of the draw.
        scenes: the toy benchmark that the edits are of, for the judge toy.
        judge: who compares.

    Raises:
        ConfigError: if the folder is in a bucket, or there is no item.

    Example:
        Two systems with the same edits of the toy world: every pair is a tie.

        >>> from mre_jax import JudgeSpec, RealEdit, SystemSpec
        >>> judge = JudgeSpec("toy")
        >>> for name in ("a", "b"):
        ...     system = SystemSpec(name, images="edits")
        ...     suite = RealEdit(data="toy/benchmark", out="pairs", system=system, judge=judge)
        ...     _ = suite.evaluate()
        >>> spec = PairwiseSpec(results=("pairs",), scenes="toy/benchmark", judge=judge)
        >>> for line in spec.summary(spec.evaluate())[:2]:
        ...     print(line)
        real-edit following: 7/7 pairs, both orders agree on 0.0%, first shown chosen +50.0% ...
            1. [1, 1] a: Elo 1000, win rate 50.0%: 0 won, 7 tied, 0 lost
    """

    results: tuple[epath.PathLike, ...] = dataclasses.field(metadata={"positional": True})
    out: epath.PathLike | None = None
    pack: str = "gedit-v2-ours"
    pictures: str = AS_EDITED
    systems: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"metavar": "SYSTEM[@REWARD]"}
    )
    baseline: str = dataclasses.field(default="", metadata={"metavar": "SYSTEM[@REWARD]"})
    suite: str | None = None
    items: int | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    seed: int = 0
    scenes: epath.PathLike | None = dataclasses.field(default=None, metadata={"metavar": "FOLDER"})
    judge: JudgeSpec

    def __post_init__(self) -> None:
        check_local(self.folder)
        if self.items is not None and self.items < 1:
            raise ConfigError(f"--items {self.items}: want 1 or more")

    @property
    def folder(self) -> Path:
        """The folder of the output."""
        return Path(self.out if self.out is not None else results_file(self.results[0]).parent)

    def pairs(self) -> list[Pair]:
        """The pairs that are compared, each once.

        Raises:
            ConfigError: if there is none, or a system is not in the results.
            DataError: as `read_edits`.
        """
        edits = choose_items(read_edits(self.results, self.suite), self.items, self.seed)
        systems = choose_systems(edits, self.systems)
        if self.baseline and self.baseline not in systems:
            raise ConfigError(f"--baseline {self.baseline}: want one of {', '.join(systems)}")
        found = list(pairs_of(edits, systems, self.baseline))
        if not found:
            raise ConfigError(f"{', '.join(systems)}: no item of which two of them have an edit")
        return found

    def evaluate(self) -> list[Result]:
        """Has the pairs compared; what is in the folder already is not asked or paid for again.

        Returns:
            the rows of these systems in this suite and pack, those of other calls too.

        Raises:
            MreError: naming the option, picture or answer that is wrong.
        """
        pack, pictures, pairs = self._prompts(), check_pictures(self.pictures), self.pairs()
        judge = self._judge(pack)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            opened(self.folder, PAIRS) as results,
            Journal(self.folder / JOURNAL) as journal,
        ):
            judge_pairs(
                pairs,
                results,
                judge=judge,
                pack=pack,
                journal=journal,
                pictures=pictures,
                concurrency=self.judge.concurrency,
                budget=self.judge.budget(),
                again=self.judge.again,
                extras=self._extras(),
            )
            return self._rows(list(results.rows.values()), pairs, pack)

    def estimate(self) -> Estimate:
        """What comparing would take.

        Raises:
            ConfigError: if the judge sends nothing to anybody.
        """
        pack, pictures = self._prompts(), check_pictures(self.pictures)
        judge = self._judge(pack, offline=True)
        questions = ask_about_pairs(self.pairs(), pack, pictures)
        return estimate(judge, questions, answered_keys(self.folder / JOURNAL))

    def summary(self, rows: Sequence[Result], bootstrap: Bootstrap | None = None) -> list[str]:
        """What a person wants to know of the rows of `evaluate`."""
        return pair_lines(rows, bootstrap)

    def notes(self) -> list[str]:
        """What a person must know before."""
        pack = self._prompts()
        return [f"{pack.name}: {pack.description}"] if pack.name.endswith(OURS) else []

    def _prompts(self) -> PromptPack:
        pack = load_pack(self.pack)
        if not pack.pairwise:
            raise ConfigError(
                f"prompt pack {self.pack}: scores one edit; take gedit-v2-ours, genarena-ours, or "
                "a .toml file with choices"
            )
        return pack

    def _judge(self, pack: PromptPack, *, offline: bool = False) -> Judge:
        judge = self.judge.make(pack.settings, offline=offline)
        if isinstance(judge, HumanJudge):
            raise ConfigError(
                f"judge {judge.name}: has scores of single edits; mre statistics --compare gives "
                "win rates of these"
            )
        return judge

    def _extras(self) -> Extras:
        if self.scenes is None:
            return {}
        return {case.id: case.extra for case in read_real_edit(Path(self.scenes))}

    @staticmethod
    def _rows(rows: Sequence[Result], pairs: Sequence[Pair], pack: PromptPack) -> list[Result]:
        suites = dict.fromkeys(pair.first.row.suite for pair in pairs)
        sides = {side for pair in pairs for side in (pair.first.side, pair.second.side)}
        return [
            row
            for suite in suites
            for row in select(rows, suite=suite)
            if row.metric in pack.perspectives and {row.side, row.against} <= sides
        ]
