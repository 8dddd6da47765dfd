"""A contact sheet: some edits of every system side by side, with their scores, as one picture."""

import collections
from collections.abc import Sequence

from etils import epath
from PIL import Image

from mre_jax.errors import DataError
from mre_jax.evaluation.results import Result
from mre_jax.io import contact_sheet as layout
from mre_jax.io.contact_sheet import FAINT, INK, Cell, Strip, grade
from mre_jax.io.image import read_image
from mre_jax.report.scores import Scores, Variant, by_suite

_SIDE = 152


def contact_sheet(
    rows: Sequence[Result],
    root: epath.PathLike,
    *,
    items: int = 14,
    first: Sequence[str] = (),
    columns: int = 1,
) -> Image.Image:
    """One line an item: the original, then each variant's edit with its three scores.

    The types of instruction take turns, and pictures are not shown twice as long as there are
    others. Only the first suite is shown.

    Args:
        rows: results with pictures.
        root: the folder that the rows' pictures are relative to.
        items: lines of the sheet, at most.
        first: names of items that come first.
        columns: lines side by side.

    Raises:
        DataError: if no row is of an edit.
    """
    if not rows or not (scores := by_suite(rows)[0]).items:
        raise DataError("no edits to draw a contact sheet of")
    edits: dict[tuple[Variant, str], list[Result]] = collections.defaultdict(list)
    for row in scores.rows:
        edits[Variant(row.system, row.condition), row.item].append(row)
    strips = []
    for row in _choose(scores, items, first):
        kind = [(f"{row.kind}:", FAINT)] if row.kind else []
        original = Cell(_picture(root, row.original), [[("original", FAINT)]])
        cells = [
            _edit(variant, edits[variant, row.item], scores, root) for variant in scores.variants
        ]
        strips.append(Strip([*kind, (row.instruction or row.item, INK)], [original, *cells]))
    return layout.contact_sheet(strips, (_SIDE, _SIDE), columns=columns)


def _edit(variant: Variant, rows: Sequence[Result], scores: Scores, root: epath.PathLike) -> Cell:
    """An edit with what it got; a perspective without a value says why."""
    found = {row.metric: row for row in rows}
    judged = [found[name] for name in scores.perspectives if name in found]
    lines = [
        [(row.status, grade(0)), (row.metric, INK)]
        if row.value is None
        else [(f"{row.value:.1f}", grade(row.value)), (row.metric, INK)]
        for row in judged
    ]
    picture = _picture(root, next((row.edited for row in rows if row.edited), ""))
    return Cell(picture, [[(variant.label, FAINT)], *lines])


def _picture(root: epath.PathLike, name: str) -> Image.Image | None:
    try:
        return read_image(epath.Path(root) / name) if name else None
    except DataError:  # a sheet with a gap still shows the others
        return None


def _choose(scores: Scores, count: int, first: Sequence[str]) -> list[Result]:
    """A row each of the items to show."""
    rows = {row.item: row for row in reversed(scores.rows)}
    chosen = [rows[item] for item in first if item in rows][:count]
    waiting = [rows[item] for item in scores.items if item not in first]
    kinds = scores.kinds or [""]
    while waiting and len(chosen) < count:
        kind = kinds[len(chosen) % len(kinds)]
        seen = {row.group for row in chosen}
        # False sorts before True: the wanted kind first, then a picture not shown yet.
        best = min(waiting, key=lambda row: (row.kind != kind, row.group in seen))
        chosen.append(best)
        waiting.remove(best)
    return chosen
