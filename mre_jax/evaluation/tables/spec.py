"""What `mre tables` is asked for, and the tables that answer it."""

import dataclasses
from collections.abc import Mapping, Sequence

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.provenance import comparable
from mre_jax.evaluation.results import Result, ResultsSpec, select
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.tables.fill import Source, build
from mre_jax.evaluation.tables.layout import LAYOUTS, layout
from mre_jax.evaluation.tables.pairs import pair_tables
from mre_jax.evaluation.tables.people import items_table, people_table
from mre_jax.evaluation.tables.table import Table


@dataclasses.dataclass(frozen=True)
class TablesSpec(ResultsSpec):
    """Which of the paper's tables are filled, and with whose results.

    Attributes:
        tables: which, 1 to 11 of the paper, 12 and 13 of Reason-Edit, 14 and 15 of GEdit-Bench, 16
            of ImgEdit-Bench, 17 and 18 of MagicBrush; may be repeated (default: all that the
            results have something for).
        paper: published numbers beside ours, whose and of when they are, and in what their judge's
            protocol is another.
        intervals: confidence intervals beside the numbers.
        rows: what fills a row, as "4:score+text=reward@5,5,5"; then only rows so named are shown.
            Labels of the rows: see --labels.
        suite: the suite to take instead of each table's own.
        items: after the tables, both scores of every edit that people and a judge have scored, the
            furthest apart first.

    Raises:
        ConfigError: if a row is of another form, or named twice.

    Example:
        >>> from mre_jax.evaluation.results import Result, append_results
        >>> edit = ("ours", "5,5,5", "real-edit", "cat-1", "cat", "Local")
        >>> append_results("results.jsonl", [Result(*edit, "quality", 4.0, measure="toy-1")])
        >>> (table,) = TablesSpec(("results.jsonl",), tables=(8,), rows=("8:Ours=ours",)).build()
        >>> print(table)
        Table 8: The same data without and with rewards
        Method ... Following  Preserving  Quality  Coverage
        ...
        Ours   ...         -           -     4.00  1/1
        Measured by toy-1.
        Missing: Ours (Following, Preserving).
    """

    tables: tuple[int, ...] = dataclasses.field(
        default=(), metadata={"flag": "--table", "metavar": "N"}
    )
    paper: bool = False
    intervals: bool = False
    rows: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"flag": "--row", "metavar": "N:LABEL=SYSTEM[@REWARD]"}
    )
    suite: str | None = None
    items: bool = False

    def build(self) -> list[Table]:
        """The tables; where none is named, the last are people beside the judge, and comparisons.

        Raises:
            ConfigError: for a table that the paper does not have, or without results.
            DataError: if there is nothing for any table, or for a row that is named; or if no edit
                has both people's scores and a judge's, where these are asked for.
        """
        sources = parse_rows(self.rows)
        bootstrap = Bootstrap() if self.intervals else None
        compared = [] if self.tables else pair_tables(self.read_pairs(), self.suite, bootstrap)
        found = self.read()
        if compared and not found:
            return compared
        _check_systems(sources, found)
        tables = [
            build(
                number,
                found,
                systems=sources.get(number),
                paper=self.paper,
                intervals=bootstrap,
                suite=self.suite,
                apart=self.side_by_side,
            )
            for number in self.tables or self._numbers(sources, found)
        ]
        if not self.tables and comparable(select(found, people=False)):
            people = people_table(found, self.suite or "real-edit", bootstrap)
            tables += [people] if people else []
        if self.items:
            listed = items_table(found, self.suite or "real-edit")
            if listed is None:
                raise DataError("--items: no edit has both people's scores and a judge's")
            tables.append(listed)
        return tables + compared

    def _numbers(self, sources: Mapping[int, object], found: Sequence[Result]) -> list[int]:
        """The tables that the results have something for."""
        numbers = [n for n in LAYOUTS if n in sources or _has_rows(n, found, self.suite)]
        if not numbers:
            raise DataError(
                f"{', '.join(map(str, self.results))}: nothing for any table; the suites in it are "
                f"{', '.join(sorted({row.suite for row in found}))}"
            )
        return numbers


def parse_rows(texts: Sequence[str]) -> dict[int, dict[str, Source]]:
    """Reads "4:score+text=reward@5,5,5" into sources by table and label.

    Raises:
        ConfigError: if one is of another form, or a row is named twice.

    Example:
        >>> parse_rows(["8:Ours=reward@5,5,5"])
        {8: {'Ours': Source(system='reward', condition='5,5,5', lead=())}}
    """
    sources: dict[int, dict[str, Source]] = {}
    for text in texts:
        number, _, rest = text.partition(":")
        label, _, name = rest.partition("=")
        system, at, condition = name.rpartition("@") if "@" in name else (name, "", "")
        if not (number.isdigit() and label and system):
            raise ConfigError(f"--row {text!r}: want N:LABEL=SYSTEM or N:LABEL=SYSTEM@REWARD")
        rows = sources.setdefault(layout(int(number)).number, {})
        if label in rows:
            raise ConfigError(f"--row {text!r}: the row {label!r} is named twice")
        rows[label] = Source(system, condition if at else None)
    return sources


def _check_systems(sources: Mapping[int, Mapping[str, Source]], rows: Sequence[Result]) -> None:
    """Raises DataError if a row names a system, or a reward of one, that has no results."""
    known = {(row.system, row.condition): None for row in rows}
    for number, by_label in sources.items():
        for label, source in by_label.items():
            wanted = source.system, source.condition
            if not any(wanted in ((name, None), (name, reward)) for name, reward in known):
                name = "@".join(part for part in wanted if part)
                names = ", ".join(dict.fromkeys(f"{s}@{c}" if c else s for s, c in known))
                raise DataError(
                    f"--row {number}:{label}={name}: no results of {name!r}; there are {names}"
                )


def _has_rows(number: int, rows: Sequence[Result], suite: str | None) -> bool:
    """Whether the table would hold a number of ours as it is filled by default."""
    try:
        table = build(number, rows, suite=suite)
    except DataError:
        return True  # the error is the user's to see
    return any(cell.value is not None for row in table.rows for cell in row.cells)
