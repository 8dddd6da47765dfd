"""GEdit-Bench, by a judge in the manner of VIEScore.

The judge gives semantic consistency (`sc`) and perceptual quality (`pq`), each the smaller of two
numbers from 0 to 10; `overall` is sqrt(sc pq) of the edit. The benchmark's number is the mean over
its groups of their means, in each language by itself, of all edits and of its intersection subset
(those that every system of its paper made). As its script does, the edit is sent at the size of the
original (`sent_pictures.AS_ORIGINAL`).

The default prompts are in our words. For numbers to be held against published ones, give the
authors' own: --pack official:FOLDER, where FOLDER is GEdit-Bench of your copy of Step1X-Edit.
"""

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mre_jax.data.triplets import safe_name
from mre_jax.errors import ConfigError
from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edits.edits_folder import Names
from mre_jax.evaluation.edits.sent_pictures import AS_ORIGINAL
from mre_jax.evaluation.judging import JudgedSuite
from mre_jax.evaluation.results import Result, select
from mre_jax.evaluation.results_file import opened
from mre_jax.evaluation.statistics.summary import subset_lines, summary_lines
from mre_jax.evaluation.suites.case_table import Columns, Where, first_cell, read_cases, read_rows

SUITE = "gedit"
LANGUAGES = ("en", "cn")
COLUMNS = Columns(
    id=("key", "id"),
    instruction=("instruction",),
    picture=("input_image_raw", "input_image", "source_image", "image"),
    kind=("task_type", "kind"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GEdit(JudgedSuite):
    """GEdit-Bench.

    Attributes:
        data: Arrow or parquet files of GEdit-Bench, or a .jsonl of its columns.
        split: split of the Arrow or parquet files.
        language: language of the instructions.

    Example:
        >>> from mre_jax import JudgeSpec, SystemSpec
        >>> system = SystemSpec("ours", images="edits")
        >>> suite = GEdit(
        ...     data="GEdit-Bench", language="cn", judge=JudgeSpec("openai:gpt-4o"),
        ...     out="out", system=system,
        ... )
        >>> suite.name
        'gedit'
    """

    split: str | None = None
    language: Literal["en", "cn", "all"] = "en"
    pack: str | None = "viescore-ours"
    pictures: str | None = AS_ORIGINAL

    name = SUITE

    @functools.cached_property
    def parts(self) -> Mapping[str, Sequence[Case]]:
        """See `Suite.parts`."""
        return {SUITE: self._benchmark.cases}

    def picture_names(self, part: str) -> Names:
        """See `Suite.picture_names`; the names that the authors' script gives are others."""
        return {
            case.id: [
                case.id,
                *(
                    f"{top}{case.kind}/{language}/{case.id}"
                    for top in ("", "fullset/")
                    for language in LANGUAGES
                ),
            ]
            for case in self.parts[part]
        }

    def evaluate(self) -> list[Result]:
        """See `Suite.evaluate`."""
        judged = super().evaluate()
        totals = overall(judged)
        with opened(self.out) as results:
            results.add(totals)
        return [row for row in judged if row.metric != "overall"] + totals

    def summary(self, rows: Sequence[Result]) -> list[str]:
        """See `Suite.summary`; the benchmark's numbers, of each language and intersection."""
        lines = [
            f"{SUITE}: {count} instructions in {own!r} are left out; --language {own} takes them"
            for own, count in self._benchmark.left_out.items()
        ]
        return [*lines, *summary_lines(rows), *subset_lines(rows)]

    @functools.cached_property
    def _benchmark(self) -> "_Benchmark":
        found = _Benchmark()
        rows = found.in_language(read_rows(self.data, self.split), self.language)
        cases = read_cases(rows, self.data, COLUMNS, Path(self.out, "originals", SUITE))
        found.cases += [dataclasses.replace(c, subsets=found.subsets[c.id]) for c in cases]
        return found


@dataclasses.dataclass
class _Benchmark:
    """What is read of the table in one pass: it may be larger than the memory.

    Attributes:
        cases: cases in the language that is asked for.
        subsets: by id, the language of a case, and its intersection if it is in that.
        left_out: number of instructions in other languages.
    """

    cases: list[Case] = dataclasses.field(default_factory=list)
    subsets: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    left_out: Counter[str] = dataclasses.field(default_factory=Counter)

    def in_language(self, rows: Iterable[Where], language: str) -> Iterator[Where]:
        for where, row in rows:
            own = str(row.get("instruction_language") or language).lower()
            if language not in ("all", own):
                self.left_out[own] += 1
                continue
            name = safe_name(str(first_cell(row, COLUMNS.id)))
            shared = (f"{own} intersection",) if row.get("Intersection_exist") else ()
            self.subsets[name] = own, *shared
            yield where, row


def overall(rows: Sequence[Result]) -> list[Result]:
    """sqrt(sc pq) of every edit; of one that lacks a score, the status of that.

    Raises:
        ConfigError: if the prompts were others.
    """
    quality = {(row.condition, row.item): row for row in select(rows, metric="pq")}
    totals = []
    for row in select(rows, metric="sc"):
        other = quality.get((row.condition, row.item))
        if other is None:
            raise ConfigError("overall needs the perspectives sc and pq of the pack viescore-ours")
        bad = next((part for part in (row, other) if part.value is None), None)
        value = None
        if row.value is not None and other.value is not None:
            value = math.sqrt(row.value * other.value)
        totals.append(
            dataclasses.replace(
                row,
                metric="overall",
                value=value,
                passed=None,
                status=bad.status if bad else "ok",
                reason=bad.reason if bad else "",
                prompt_hash=f"{row.prompt_hash}+{other.prompt_hash}",
            )
        )
    if not totals:
        raise ConfigError("overall needs the perspectives sc and pq of the pack viescore-ours")
    return totals
