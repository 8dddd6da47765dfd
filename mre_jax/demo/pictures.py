"""The demo's contact sheets."""

from collections.abc import Sequence
from pathlib import Path

from mre_jax.demo.telling import SHOWN, telling_edits
from mre_jax.evaluation.results import Result, read_results
from mre_jax.io.image import write_png
from mre_jax.report.contact_sheet import contact_sheet

_FIRST, _UNCHOSEN = 14, 7


def write_first_edits(folder: Path, out: Path) -> Path:
    """The first edits of a folder of results, beside their originals; returns `out`."""
    write_png(contact_sheet(read_results(folder), folder, items=_FIRST, columns=2), out)
    return out


def write_contact_sheet(rows: Sequence[Result], root: Path, out: Path) -> Path:
    """The telling edit of each type, beside others as they come; returns `out`."""
    shown = [(system, condition) for _, system, condition in SHOWN]
    compared = [row for row in rows if (row.system, row.condition) in shown]
    first = [one.row.item for one in telling_edits(compared)]
    write_png(
        contact_sheet(compared, root, items=len(first) + _UNCHOSEN, first=first, columns=2), out
    )
    return out
