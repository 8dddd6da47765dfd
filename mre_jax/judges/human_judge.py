"""Scores that people gave, from a table.

Columns (CSV) or keys (JSONL): `item`, `perspective`, `score`, and, if there are any, `passed` (yes
or no), `text` and `model` (who or which study; "human" without it). One row an item and
perspective; of several annotators, write down what they agree on first.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from mre_jax.errors import DataError
from mre_jax.judges.judge import verdict_for
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import Verdict

_NEEDED = ("item", "perspective", "score")
_KNOWN = (*_NEEDED, "passed", "text", "model")
_YES_NO = {"yes": True, "no": False, "true": True, "false": False, "1": True, "0": False}


class HumanJudge:
    """Answers by item and perspective.

    Args:
        path: of a .csv or .jsonl file.

    Raises:
        DataError: naming the row that is of another form, or stands in it twice.
    """

    def __init__(self, path: str):
        self._path = path
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        for where, row in _read(epath.Path(path)):
            entry = _entry(row, where)
            key = entry["item"], entry["perspective"]
            if key in self._rows:
                raise DataError(f"{where}: {key[0]!r}, {key[1]} stands in it twice")
            self._rows[key] = entry
        if not self._rows:
            raise DataError(f"{path}: no scores in it")

    @property
    def name(self) -> str:
        return f"human:{self._path}"

    @property
    def settings(self) -> Mapping[str, Any]:
        rows = json.dumps(sorted(self._rows.values(), key=lambda r: (r["item"], r["perspective"])))
        return {"human": hashlib.sha256(rows.encode()).hexdigest()}

    def worst_usd(self, question: Question) -> float:
        return 0.0

    async def ask(self, question: Question) -> Verdict:
        """The score in the table, or "missing".

        Raises:
            DataError: if it is out of the prompt's range, or lacks the yes or no it asks for.
        """
        row = self._rows.get((question.item, question.perspective))
        if row is None:
            return verdict_for(self, question, "missing", text=f"not in {self._path}")
        answer = question.prompt.answer
        where = f"{self._path}: {question.item!r}, {question.perspective}"
        if not answer.low <= row["score"] <= answer.high:
            raise DataError(
                f"{where}: score {row['score']} is not in {answer.low} to {answer.high}"
            )
        if answer.passed and row["passed"] is None:
            raise DataError(f"{where}: no yes or no in column 'passed'")
        return verdict_for(
            self,
            question,
            "ok",
            score=row["score"],
            passed=row["passed"] if answer.passed else None,
            text=row["text"],
            model=row["model"],
        )

    def halt(self) -> None:
        pass

    async def close(self) -> None:
        pass


def _read(path: epath.Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix not in (".csv", ".jsonl"):
        raise DataError(f"{path}: want a .csv or .jsonl file of scores")
    try:
        with path.open("rb") as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as file:
            if path.suffix == ".csv":
                reader = csv.DictReader(file, restkey="")
                yield from ((f"{path}:{reader.line_num}", row) for row in reader)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", json.loads(line)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error, json.JSONDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _entry(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: not an object")
    for name in _NEEDED:
        if row.get(name) in (None, ""):
            raise DataError(f"{where}: nothing in {name!r}; it has {', '.join(map(str, row))}")
    if unknown := [name for name in row if name not in _KNOWN]:
        raise DataError(f"{where}: unknown column {unknown[0]!r}; want {', '.join(_KNOWN)}")
    passed = row.get("passed")
    if passed not in (None, "") and str(passed).strip().lower() not in _YES_NO:
        raise DataError(f"{where}: passed is {passed!r}; want yes or no")
    return {
        "item": str(row["item"]),
        "perspective": str(row["perspective"]),
        "score": _number(row["score"], where),
        "passed": None if passed in (None, "") else _YES_NO[str(passed).strip().lower()],
        "text": str(row.get("text") or ""),
        "model": str(row.get("model") or "human"),
    }


def _number(cell: Any, where: str) -> float:
    try:
        if isinstance(cell, bool) or not isinstance(cell, int | float | str):
            raise ValueError
        number = float(cell)
    except ValueError:
        raise DataError(f"{where}: score {cell!r} is not a number") from None
    if not math.isfinite(number):
        raise DataError(f"{where}: score {cell!r} is not a number")
    return int(number) if number.is_integer() else number
