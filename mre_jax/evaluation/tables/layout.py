"""The paper's tables, and some of others: rows, columns, and published numbers."""

import dataclasses
import functools
import importlib.resources
import json
from collections.abc import Mapping

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
        people: whether people are asked, not a judge model.
        kind: type of the instructions that count; "" for all.
        subset: part of the suite that counts, see `Result.subsets`; "" for all of the table's.
        macro: whether it is the mean of the types' means, each as much as another.
    """

    group: str
    name: str
    metric: str
    accuracy: bool = False
    scale: float = 1.0
    decimals: int = 2
    unit: str = ""
    people: bool = False
    kind: str = ""
    subset: str = ""
    macro: bool = False

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
        values: its numbers, as printed; None where it has none.
    """

    label: str
    lead: tuple[Lead, ...]
    values: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """One table.

    Attributes:
        number: the paper's; 0 for none.
        title: what it shows.
        lead: headings left of the numbers.
        columns: the others.
        suite: the benchmark its rows are of.
        note: what a reader must know about a choice that the paper leaves open.
        kind: "Table"; "Figure" if the paper draws what we list; "Further table" if it does not have
            it, which is numbered behind its own.
        published: whose numbers the rows are, of when, and by which judge, if not the paper's.
        protocol: how a judge came to them: "judge", and settings that rows of results record.
        subset: the part of the suite that it is of; "" for all.
    """

    number: int
    title: str
    lead: tuple[str, ...]
    columns: tuple[Column, ...]
    suite: str = "real-edit"
    note: str = ""
    kind: str = "Table"
    published: str = ""
    protocol: Mapping[str, str] = dataclasses.field(default_factory=dict)
    subset: str = ""

    @property
    def human(self) -> bool:
        """Whether people are asked throughout."""
        return all(column.people for column in self.columns)

    @property
    def rows(self) -> tuple[PaperRow, ...]:
        """The paper's rows, in its order."""
        return _paper_rows()[self.number]


def layout(number: int) -> Layout:
    """The layout of Table `number`.

    Raises:
        ConfigError: if there is none.
    """
    if number not in LAYOUTS:
        raise ConfigError(
            f"table {number}: the paper has Tables 1 to 11; 12 and 13 are Reason-Edit's, 14 and 15 "
            "GEdit-Bench's, 16 ImgEdit-Bench's, 17 and 18 MagicBrush's"
        )
    return LAYOUTS[number]


def _both(metric: str) -> tuple[Column, Column]:
    group = metric.capitalize()
    return (
        Column(group, "Acc", metric, accuracy=True, scale=100, decimals=0, unit="%"),
        Column(group, "Score", metric),
    )


_JUDGED = tuple(column for name in PERSPECTIVES for column in _both(name))
_SCORES = tuple(Column("", name.capitalize(), name) for name in PERSPECTIVES)
_BY_PEOPLE = tuple(dataclasses.replace(column, people=True) for column in _SCORES)
_SYSTEM = ("Method",)
_DATA = ("Method", "Edit Data")

_MASKED = (
    Column("", "PSNR", "psnr_masked", decimals=3),
    Column("", "SSIM", "ssim_masked", decimals=3),
    Column("", "LPIPS ↓", "lpips_masked", decimals=3),
    Column("", "CLIP", "clip_score", decimals=3),
    Column("", "Ins-align (people)", "ins_align", decimals=3, people=True),
    Column("", "Ins-align (judge)", "ins_align", decimals=3),
    Column("", "MSE ↓", "mse_masked", decimals=4),
)


def _reason_edit(number: int, group: str) -> Layout:
    return Layout(
        number,
        f"Reason-Edit, {group}",
        _SYSTEM,
        _MASKED,
        suite=f"reason-edit-{group}",
        note="Means over pictures. The authors edit in 100 steps with guidance 7.5 and 1.5, and "
        "with a random seed each. PSNR is 100 dB at most here; SSIM is that of torchmetrics up to "
        "1.4. Published Ins-align is people's.",
        kind="Further table",
        published="numbers of SmartEdit's paper as recalled, to be verified there",
    )


_PAPER_PROTOCOL = {"judge": PAPER_JUDGE, "pack": "paper-evaluation"}


def _paper(
    number: int, title: str, lead: tuple[str, ...], columns: tuple[Column, ...], suite: str = ""
) -> Layout:
    """A table of the paper's judge."""
    suite = suite or "real-edit"
    return Layout(number, title, lead, columns, suite, protocol=_PAPER_PROTOCOL)


def _gedit(number: int, language: str, name: str, theirs: int) -> Layout:
    def columns(group: str, subset: str) -> list[Column]:
        return [
            Column(group, title, metric, decimals=3, subset=subset, macro=True)
            for title, metric in (("SC", "sc"), ("PQ", "pq"), ("O", "overall"))
        ]

    both = columns("Intersection", f"{language} intersection") + columns("Full set", "")
    return Layout(
        number,
        f"GEdit-Bench, {name}",
        _SYSTEM,
        tuple(both),
        suite="gedit",
        subset=language,
        note="Means of the types' means, from 0 to 10, of the edits that were made.",
        kind="Further table",
        published=f"Table {theirs} of Step1X-Edit's report, arXiv 2504.17761 in its version of "
        "2025 with Step1X-Edit-v1.1 (judge: GPT-4.1, June 2025)",
        protocol={"judge": "gpt-4.1", "pack": "gedit-official", "pictures": "as-original"},
    )


_IMGEDIT_TYPES = (
    *("add", "adjust", "extract", "replace", "remove", "background", "style", "compose", "action"),
)


def _imgedit(number: int) -> Layout:
    types = [
        Column("", {"compose": "Hybrid"}.get(kind, kind.capitalize()), "overall", kind=kind)
        for kind in _IMGEDIT_TYPES
    ]
    return Layout(
        number,
        "ImgEdit-Bench, basic edits",
        _SYSTEM,
        (*types, Column("", "Overall", "overall", macro=True)),
        suite="imgedit",
        note="Scores from 1 to 5; overall is the mean of the types' means, from which the "
        "leaderboard's is up to 0.05 away.",
        kind="Further table",
        published="the leaderboard in ImgEdit's repository, as of 2025-07-27 (judge: GPT-4.1)",
        protocol={"judge": "gpt-4.1", "pack": "imgedit-official", "pictures": "as-is"},
    )


def _magicbrush(number: int, turns: str, name: str) -> Layout:
    metrics = {"L1 ↓": "l1", "L2 ↓": "l2", "CLIP-I": "clip_i", "DINO": "dino", "CLIP-T": "clip_t"}
    return Layout(
        number,
        f"MagicBrush test set, {name}",
        _SYSTEM,
        tuple(Column("", title, metric, decimals=4) for title, metric in metrics.items()),
        suite=f"magicbrush-{turns}",
        note="CLIP-T is taken on local captions, as in the example of MagicBrush's repository; "
        "published numbers are of CLIP ViT-B/32 and DINO ViT-S/16.",
        kind="Further table",
        published="Table 2 of MagicBrush's paper, arXiv 2306.10012 (NeurIPS 2023), without a mask",
    )


LAYOUTS = {
    table.number: table
    for table in (
        _paper(1, "Systems on Real-Edit", _DATA, _JUDGED),
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
        Layout(3, "Human evaluation on Real-Edit", _SYSTEM, _BY_PEOPLE),
        _paper(4, "The two parts of the reward", ("#", "Score", "Text"), _JUDGED),
        _paper(5, "Ways to bring the reward in", ("#", "Attention", "Addition"), _JUDGED),
        _paper(6, "Reward scores asked for", ("#", "F", "P", "Q"), _JUDGED),
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
        _paper(8, "The same data without and with rewards", _DATA, _SCORES),
        _paper(9, "Training examples with scores of 2 or less", _SYSTEM, _SCORES, "challenging"),
        _paper(10, "Reward of single perspectives", ("IF", "DP", "GQ"), _SCORES),
        _paper(11, "Training resolution", ("Resolution",), _SCORES),
        _reason_edit(12, "understanding"),
        _reason_edit(13, "reasoning"),
        _gedit(14, "en", "English", theirs=2),
        _gedit(15, "cn", "Chinese", theirs=3),
        _imgedit(16),
        _magicbrush(17, "single", "single turn"),
        _magicbrush(18, "multi", "multi turn"),
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
