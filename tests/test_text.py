"""Any text of JSON goes through the whole house, from a list to a report, and comes back equal."""

import csv
import dataclasses
import io
import json
import re
import tempfile
from pathlib import Path

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mre_jax.evaluation.case import Case
from mre_jax.evaluation.edit_set import EditSet
from mre_jax.evaluation.results import Result, read_results
from mre_jax.evaluation.results_file import ResultsFile
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.summary import compare_lines, summary_lines
from mre_jax.evaluation.tables.fill import render
from mre_jax.evaluation.tables.formats import WRITERS, neutral, plain
from mre_jax.judges.journal import Journal
from mre_jax.judges.verdict import Verdict
from mre_jax.report.page import write_report
from mre_jax.reward.scores import PERSPECTIVES
from tests.editing.test_sample import result_rows, work_through

SHARP = "\ud800\udc80\0\x1b\x85\u2028\u2029\u202e\ufeff\r\n\t\"'\\,;|&<=@%{}_é中\U0001f388"
TEXT = st.text() | st.text(st.sampled_from(SHARP), max_size=8)
OTHER = "the other"
BOOTSTRAP = Bootstrap(draws=20)


@given(TEXT, TEXT, TEXT)
@example("snow\u2028sky\x85\u2029end", "</script>\ud800", "=2+3\r\n\x1b[31m")
@example("\ufeff a\tb", "\u202egnp.exe", "a@5,5,5")
@settings(max_examples=40)
def test_a_text_comes_back_equal_from_every_room(instruction, reason, system):
    """What one room wrote, another could not read, and all work was done anew for ever."""
    assume(instruction.strip() and not re.search("[\ud800-\udfff]", instruction))  # refused by name
    assume(plain(system) and system != OTHER)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _edit(folder, instruction, [reason, system])
        _judge(folder, instruction, reason)
        rows = _write_results(folder, instruction, reason, system)
        _tell(rows, system)
        _report(folder, rows, instruction, reason, system)


def _edit(folder: Path, instruction: str, meta: list[str]) -> None:
    """A list is worked through; a second run finds everything finished."""
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    item = {"id": "i", "image": "a.png", "prompt": instruction, "meta": meta}
    (folder / "items.jsonl").write_text(json.dumps(item))
    for made in (1, 0):
        assert work_through(folder) == made
        (row,) = result_rows(folder)
        assert (row["request"]["prompt"], row["meta"]) == (instruction, meta)


def _judge(folder: Path, instruction: str, reason: str) -> None:
    """A journal that is opened again knows the answer."""
    given = {"text": reason, "raw": instruction, "settings": {"said": reason}}
    verdict = Verdict(reason, instruction, "following", "ok", score=3.0, **given)
    with Journal(folder / "journal.jsonl") as journal:
        journal.append(verdict)
    with Journal(folder / "journal.jsonl") as journal:
        assert journal.find(reason, instruction) == verdict
        assert list(journal.verdicts()) == [verdict]


def _write_results(folder: Path, instruction: str, reason: str, system: str) -> list[Result]:
    """Rows of two systems on two photos, as the file gives them back after a second run."""
    cases = [Case(f"{n}-1", f"{n}", reason, instruction, folder / "a.png") for n in range(2)]
    pictures = {case.id: folder / "out" / "images" / "i.png" for case in cases}
    rows = [
        EditSet("real-edit", name, "", "", folder, cases, pictures).row(
            case,
            metric,
            value,
            passed=True,
            measure="m",
            prompt_hash="p",
            reason=reason,
            provenance={"said": reason},
        )
        for name, value in ((system, 3.0), (OTHER, 2.0))
        for case in cases
        for metric in PERSPECTIVES
    ]
    path = folder / "results.jsonl"
    for _ in range(2):
        with ResultsFile(path) as results:
            results.add(rows)
        assert read_results(path) == rows
    assert path.read_bytes().count(b"\n") == len(rows)
    return rows


def _tell(rows: list[Result], system: str) -> None:
    """A name stays in its cell and on its line, whatever it holds."""
    cells = list(csv.reader(io.StringIO(render(1, rows, "csv"))))
    assert len({len(line) for line in cells}) == 1
    assert neutral(system) in [line[0] for line in cells]
    harmless = [dataclasses.replace(row, system=row.system.replace(system, "x")) for row in rows]
    for format in WRITERS:
        told, usual = render(1, rows, format), render(1, harmless, format)
        assert len(told.splitlines()) == len(usual.splitlines())
    compared = compare_lines(rows, system, OTHER, bootstrap=BOOTSTRAP)
    for lines in (summary_lines(rows), compared):
        assert lines and all(len(plain(line).splitlines()) == 1 for line in lines)


def _report(folder: Path, rows: list[Result], instruction: str, reason: str, system: str) -> None:
    """The page's script reads every text as it was."""
    path = folder / "report.html"
    write_report(path, rows, root=folder, title=system, bootstrap=BOOTSTRAP)
    (data,) = re.findall(
        r'<script type="application/json"[^>]*>(.*?)</script>', path.read_bytes().decode(), re.S
    )
    data = json.loads(data)
    assert data["variants"][0] == system.strip()
    for item in data["items"]:
        assert (item["text"], item["kind"]) == (instruction, reason)
        assert [edit["reasons"] for edit in item["edits"]] == [[reason] * len(PERSPECTIVES)] * 2
