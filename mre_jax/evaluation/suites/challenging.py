"""Training examples of low scores, made anew (Table 9).

The checkpoint edits the originals of training examples whose rewards are bad; its edits and the
examples' own targets, the system "Original", are judged by the same judge.
"""

import dataclasses
import functools
import hashlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from mre_jax.data.join import Judged, join
from mre_jax.data.sources import SOURCES, open_source
from mre_jax.data.sources.source import strict
from mre_jax.data.triplets import Triplet, safe_name
from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.case import Case, check_cases
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.results_file import ResultsFile
from mre_jax.evaluation.suites.case_table import write_picture
from mre_jax.io.json_file import read_rows
from mre_jax.reward.file import read_rewards

SUITE = "challenging"
TARGETS = "Original"
RULES: dict[str, Callable[[Sequence[float]], float]] = {
    "all": max,
    "any": min,
    "mean": statistics.fmean,
}
"""What of the three scores is held against the limit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Challenging(JudgedSuite):
    """Training examples of low scores, made anew.

    Attributes:
        data: folder or file of the training set.
        source: kind of the training set.
        reward_edit: its rewards, RewardEdit_20K.json.
        max_score: limit of the scores.
        rule: all, any or the mean of an example's scores are that low (the paper does not say).
        count: number of examples.
        draw: seed of their choice.

    Raises:
        ConfigError: if the system has the name of the targets.

    Example:
        >>> from mre_jax import JudgeSpec, SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> rewards = "toy/RewardEdit.json"
        >>> suite = Challenging(
        ...     data="toy/triplets", reward_edit=rewards, max_score=3, rule="mean", count=2,
        ...     out="out", system=system, judge=JudgeSpec("toy"),
        ... )
        >>> [case.instruction for case in suite.parts["challenging"]]
        ['remove the yellow circle', 'make the orange triangle plain']
    """

    source: str = dataclasses.field(
        default="instruct_pix2pix", metadata={"choices": tuple(SOURCES)}
    )
    reward_edit: epath.PathLike
    max_score: float = 2.0
    rule: str = dataclasses.field(default="all", metadata={"choices": tuple(RULES)})
    count: int = 500
    draw: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.system.name == TARGETS:
            raise ConfigError(f"--system {TARGETS}: that is what the targets are called")

    name = SUITE

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`; the pictures of the chosen examples are written to a folder.

        Raises:
            DataError: if no example has scores that low, or as the source.
        """
        source = join(open_source(self.source, self.data), read_rewards(self.reward_edit))
        low = _low(source, self.rule, self.max_score)
        if not low:
            raise DataError(
                f"{self.reward_edit}: no example with {self.rule} of its scores at most "
                f"{self.max_score:g}; raise --max-score, or take --rule any"
            )
        chosen = sorted(sorted(low, key=lambda entry: _rank(self.draw, entry[1]))[: self.count])
        triplets = strict(source.read([position for position, _ in chosen]))
        data, pictures = epath.Path(self.data), Path(self.out) / "originals" / SUITE
        return {SUITE: check_cases([_case(one, data, pictures) for one in triplets], self.data)}

    def edit_sets(self) -> Iterator[EditSet]:
        """See `Suite.edit_sets`; the examples' own targets come first."""
        cases = self.parts[SUITE]
        targets = {case.id: case.target for case in cases if case.target is not None}
        yield EditSet(SUITE, TARGETS, "", "", Path(self.out), cases, targets)
        yield from super().edit_sets()

    def _rows(self, results: ResultsFile, *systems: str) -> list[Result]:
        return super()._rows(results, TARGETS, *systems)


def _low(source: Judged, rule: str, limit: float) -> list[tuple[int, str]]:
    """Position and name, or row, of the examples with low scores."""
    keys = source.keys()
    names = keys.names if source.report.key == "folder" else [str(row) for row in keys.rows]
    judged = enumerate(zip(names or (), source.rewards, strict=True))
    return [
        (place, name)
        for place, (name, reward) in judged
        if reward is not None and RULES[rule](reward.scores) <= limit
    ]


def _rank(seed: int, id_: str) -> bytes:
    """A random order that does not depend on what else is in the set."""
    return hashlib.sha256(f"{seed}/{id_}".encode()).digest()


def _case(triplet: Triplet, data: epath.Path, pictures: Path) -> Case:
    id_ = safe_name(triplet.id)
    return Case(
        id=id_,
        group=id_,
        kind="",
        instruction=triplet.instruction,
        original=write_picture(triplet.original, pictures, f"{id_}_0", triplet.where),
        target=write_picture(triplet.edited, pictures, f"{id_}_1", triplet.where),
        extra=_extra(data, triplet.id),
    )


def _extra(data: epath.Path, id_: str) -> dict[str, Any]:
    """Scene and edit of an example of the toy world."""
    name, _, seed = id_.rpartition("_")  # where a folder holds several
    try:
        for folder in filter(None, (id_, name)):
            if (path := data / folder / "metadata.jsonl").exists():
                rows = [row for _, row in read_rows(path)]
                row = next((row for row in rows if str(row["seed"]) == seed), rows[0])
                return {"scene": row["scene"], "edit": row["edit"]}
    except (DataError, LookupError):
        pass
    return {}
