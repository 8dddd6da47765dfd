"""The paper's tables: their rows, their columns, and its own numbers."""

import dataclasses
import functools
import importlib.resources
import json

from mre_jax.errors import ConfigError
from mre_jax.reward.scores import PERSPECTIVES

PAPER_JUDGE = "gpt-4o-2024-08-06"
Lead = str | bool
"""What stands left of the numbers: a text, or whether there is a tick."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        group: the heading above, as "Following"; "" if there is none.
        name: the heading, as "Acc".
        metric: the result rows it is made of.
        accuracy: whether it is the share of yes, rather than the mean value.
        scale: what values are multiplied with.
        decimals: places of the printed number.
        unit: printed behind it.
    """

    group: str
    name: str
    metric: str
    accuracy: bool = False
    scale: float = 1.0
    decimals: int = 2
    unit: str = ""

    @property
    def heading(self) -> str:
        """Both headings in one."""
        return f"{self.group} {self.name}".strip()


@dataclasses.dataclass(frozen=True)
class PaperRow:
    """A row as the paper has it.

    Attributes:
        label: what the row is called here; unique in its table.
        lead: the cells left of the numbers.
        values: its numbers, as printed.
    """

    label: str
    lead: tuple[Lead, ...]
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One table.

    Attributes:
        number: the paper's.
        title: what it shows.
        lead: headings left of the numbers.
        columns: the others.
        suite: the benchmark its rows are of.
        human: whether people were asked, not a judge model.
        note: what a reader must know about a choice that the paper leaves open.
        kind: "Table", or "Figure" if the paper draws what we list.
    """

    number: int
    title: str
    lead: tuple[str, ...]
    columns: tuple[Column, ...]
    suite: str = "real-edit"
    human: bool = False
    note: str = ""
    kind: str = "Table"

    @property
    def rows(self) -> tuple[PaperRow, ...]:
        """The paper's rows, in its order."""
        return _paper_rows()[self.number]


def layout(number: int) -> Layout:
    """The layout of Table `number`.

    Raises:
        ConfigError: unless it is one of the paper's.
    """
    if number not in LAYOUTS:
        raise ConfigError(f"table {number}: the paper has Tables 1 to {len(LAYOUTS)}")
    return LAYOUTS[number]


def _both(metric: str) -> tuple[Column, Column]:
    group = metric.capitalize()
    return (
        Column(group, "Acc", metric, accuracy=True, scale=100, decimals=0, unit="%"),
        Column(group, "Score", metric),
    )


_JUDGED = tuple(column for name in PERSPECTIVES for column in _both(name))
_SCORES = tuple(Column("", name.capitalize(), name) for name in PERSPECTIVES)
_SYSTEM = ("Method",)
_DATA = ("Method", "Edit Data")

LAYOUTS = {
    table.number: table
    for table in (
        Layout(1, "Systems on Real-Edit", _DATA, _JUDGED),
        Layout(
            2,
            "MagicBrush test set (%)",
            _SYSTEM,
            (
                Column("", "CLIP-I", "clip_i", scale=100, decimals=1),
                Column("", "CLIP-T", "clip_t_global", scale=100, decimals=1),
            ),
            suite="magicbrush-single",
            note="CLIP-T is taken on the global captions of single-turn edits, the official "
            "script's default; the paper does not say which, and its numbers exceed local ones'.",
        ),
        Layout(3, "Human evaluation on Real-Edit", _SYSTEM, _SCORES, human=True),
        Layout(4, "The two parts of the reward", ("#", "Score", "Text"), _JUDGED),
        Layout(5, "Ways to bring the reward in", ("#", "Attention", "Addition"), _JUDGED),
        Layout(6, "Reward scores asked for", ("#", "F", "P", "Q"), _JUDGED),
        Layout(
            7,
            "Metrics without a judge",
            _SYSTEM,
            (
                Column("", "Following (CLIP)", "clip_following", scale=100, decimals=1),
                Column("", "Preserving (CLIP)", "clip_preserving", scale=100, decimals=1),
                Column("", "Quality (FID) ↓", "fid_64"),
            ),
            suite="table7",
            note="FID is of 64 features; the paper does not say which, and its numbers are of "
            "that size. FID at 192, 768 and 2048 features and KID are in the results.",
        ),
        Layout(8, "The same data without and with rewards", _DATA, _SCORES),
        Layout(9, "Training examples with scores of 2 or less", _SYSTEM, _SCORES, "challenging"),
        Layout(10, "Reward of single perspectives", ("IF", "DP", "GQ"), _SCORES),
        Layout(11, "Training resolution", ("Resolution",), _SCORES),
    )
}


@functools.cache
def _paper_rows() -> dict[int, tuple[PaperRow, ...]]:
    text = importlib.resources.files(__package__).joinpath("paper_tables.json").read_text("utf-8")
    return {
        int(number): tuple(
            PaperRow(row["label"], tuple(row["lead"]), tuple(row["values"])) for row in rows
        )
        for number, rows in json.loads(text).items()
    }
