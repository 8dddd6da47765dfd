"""Scores that people gave, from a table: who scored whose edit of what, in which perspective.

Columns (CSV, with commas, semicolons or tabs) or keys (JSONL): `item`, `perspective` and `score`,
and, where there are several of them, `system` (as "SmartEdit"; a reward that was asked for follows
an "@", as "reward@5,5,5") and `annotator`. Optional: `passed` (yes or no), `text` and `model`
(which study; "human" without it). A wide table has, instead of `perspective` and `score`, a column
of scores for each perspective; an empty cell is a score that was not given. Capitals in headings
and perspectives do not matter, and "3,5" is 3.5.
"""

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from mre_jax.errors import DataError

_TEXTS = ("system", "annotator", "text", "model")
_LONG = ("item", "perspective", "score")
_KNOWN = (*_LONG, *_TEXTS, "passed")
_DECIMAL_COMMA = re.compile(r"\s*(-?\d+),(\d+)\s*")
_YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}


@dataclasses.dataclass(frozen=True)
class Rating:
    """What one person said of one edit in one perspective.

    Attributes:
        item: name of the benchmark's item.
        perspective: one of a prompt pack's.
        score: a number in the range of the perspective.
        passed: yes or no; None if it was not asked.
        system: whose edit it is; "" in a table of one system.
        annotator: who scored; "" in a table of one annotator.
        text: what was said.
        model: which study; "human" if it has no name.
    """

    item: str
    perspective: str
    score: float
    passed: bool | None = None
    system: str = ""
    annotator: str = ""
    text: str = ""
    model: str = "human"

    @property
    def edit(self) -> tuple[str, str, str]:
        """What was scored: system, item, perspective."""
        return self.system, self.item, self.perspective


def read_ratings(path: epath.PathLike) -> list[Rating]:
    """Reads a table of people's scores, in its order.

    Args:
        path: a .csv, .tsv or .jsonl file.

    Raises:
        DataError: naming the row that is of another form, or that scores an edit a second time.
    """
    ratings: list[Rating] = []
    places: dict[tuple[str, ...], str] = {}
    for where, row in _read(epath.Path(path)):
        for rating in _ratings(row, where):
            key = *rating.edit, rating.annotator
            if key in places:
                raise DataError(f"{where}: {_twice(rating)}, first in {places[key]}")
            places[key] = where
            ratings.append(rating)
    if not ratings:
        raise DataError(f"{path}: no scores in it")
    for name in ("system", "annotator"):
        if any(getattr(one, name) for one in ratings) and not all(
            getattr(one, name) for one in ratings
        ):
            raise DataError(f"{path}: some rows have a {name} and some have none; fill the column")
    return ratings


def _twice(rating: Rating) -> str:
    whose = f" of {rating.system}" if rating.system else ""
    said = f"{rating.item!r}{whose}, {rating.perspective} is scored twice"
    if rating.annotator:
        return f"{said} by {rating.annotator!r}; keep one"
    wanted = "'annotator'" if rating.system else "'annotator' or 'system'"
    return f"{said}; tell them apart in a column {wanted}"


def _read(path: epath.Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise DataError(f"{path}: want a .csv, .tsv or .jsonl file of scores")
    try:
        with path.open("rb") as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            rows = _jsonl if path.suffix == ".jsonl" else _csv
            yield from ((f"{path}:{number}", row) for number, row in rows(file))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _csv(file: io.TextIOWrapper) -> Iterator[tuple[int, Mapping[str, Any]]]:
    heading = file.readline()
    delimiter = max(",;\t", key=heading.count)
    names = next(csv.reader([heading], delimiter=delimiter), [])
    reader = csv.DictReader(
        file, [_name(name) for name in names], restkey="", delimiter=delimiter, strict=True
    )
    for row in reader:
        yield reader.line_num + 1, row


def _jsonl(file: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, json.loads(line)


def _name(heading: str) -> str:
    name = heading.strip()
    return name.lower() if name.lower() in _KNOWN else name


def _ratings(row: Any, where: str) -> Iterator[Rating]:
    """One rating of a long row; of a wide one as many as it has scores."""
    if not isinstance(row, dict):
        raise DataError(f"{where}: not an object")
    if "" in row:
        raise DataError(f"{where}: more cells than the heading has columns")
    others = [name for name in row if name not in _KNOWN]
    if "perspective" in row or "score" in row or not others:
        for name in _LONG:
            _needed(row, name, where)
        if others:
            raise DataError(f"{where}: unknown column {others[0]!r}; want {', '.join(_KNOWN)}")
        yield _rating(row, str(row["perspective"]).strip(), row["score"], where)
        return
    _needed(row, "item", where)
    for name in others:
        if row[name] not in (None, ""):
            yield _rating({**row, "passed": None}, name, row[name], f"{where}, {name}")


def _needed(row: Mapping[str, Any], name: str, where: str) -> None:
    if name not in row:
        raise DataError(f"{where}: no column {name!r}; it has {', '.join(map(str, row))}")
    if row[name] in (None, ""):
        raise DataError(f"{where}: nothing in {name!r}")


def _rating(row: Mapping[str, Any], perspective: str, score: Any, where: str) -> Rating:
    texts = {name: str(row[name]).strip() for name in _TEXTS if row.get(name) not in (None, "")}
    return Rating(
        item=str(row["item"]).strip(),
        perspective=perspective.lower(),
        score=_number(score, where),
        passed=_yes_no(row.get("passed"), where),
        **texts,
    )


def _yes_no(cell: Any, where: str) -> bool | None:
    if cell in (None, ""):
        return None
    if str(cell).strip().lower() not in _YES_NO:
        raise DataError(f"{where}: passed is {cell!r}; want yes or no")
    return _YES_NO[str(cell).strip().lower()]


def _number(cell: Any, where: str) -> float:
    try:
        if isinstance(cell, bool) or not isinstance(cell, int | float | str):
            raise ValueError
        number = float(
            _DECIMAL_COMMA.sub(r"\1.\2", cell, count=1) if isinstance(cell, str) else cell
        )
    except ValueError:
        raise DataError(f"{where}: score {cell!r} is not a number") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: score {cell!r} is not a number")
    return int(number) if number.is_integer() else number
