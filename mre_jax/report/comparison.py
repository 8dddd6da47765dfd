"""Two variants against each other, item by item."""

import dataclasses

from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import WinRate
from mre_jax.report.charts import share_bar
from mre_jax.report.html import MINUS, Markup, render, signed
from mre_jax.report.scores import Scores, Variant
from mre_jax.report.tables import differences

_LISTED = 8  # items of the largest gains, and of the largest losses
_OUTCOMES = ("A better", "equal", "B better")


@dataclasses.dataclass(frozen=True)
class Move:
    """An item that one system edits better than the other.

    Attributes:
        change: change of the mean of the perspectives.
        row: one of the item's.
        facts: what there is to say of it in a line.
    """

    change: float
    row: Result
    facts: str


def comparison(scores: Scores, first: Variant, second: Variant) -> Markup | None:
    """Differences, win rates, and the items that differ most; None if they share no item."""
    metrics = [metric for metric in scores.perspectives if _paired(scores, first, second, metric)]
    if not metrics:
        return None
    kinds = (True, False) if scores.has_answers else (False,)
    (found,), _ = differences(scores, [(first, second)], kinds, metrics)
    wins = {metric: scores.win_rate(first, second, metric) for metric in metrics}
    width = len(kinds)
    lines = [
        (metric, found[place * width : (place + 1) * width], wins[metric])
        for place, metric in enumerate(metrics)
    ]
    moves = _moves(scores, first, second)
    return render(
        "comparison.html",
        first=first,
        second=second,
        count=len(metrics) * width,
        names=[
            *(f"A {MINUS} B, {'share of yes' if of else 'score'}" for of in kinds),
            *(*_OUTCOMES, "Win rate of A"),
        ],
        lines=lines,
        bars=[(metric, _bar(metric, of)) for metric, of in wins.items()],
        gains=[move for move in moves if move.change > 0][:_LISTED],
        losses=[move for move in reversed(moves) if move.change < 0][:_LISTED],
    )


def _bar(metric: str, found: WinRate) -> Markup:
    counts = (found.wins, found.ties, found.losses)
    total = sum(counts)
    names = [f"{name}: {count} of {total}" for name, count in zip(_OUTCOMES, counts, strict=True)]
    title = f"{metric}: {', '.join(names)}"
    return share_bar([count / total for count in counts], names, title=title)


def _paired(scores: Scores, first: Variant, second: Variant, metric: str) -> dict[str, float]:
    """First less second by item, where both have a value."""
    theirs = {row.item: row.value for row in scores.series(second, metric) if row.value is not None}
    return {
        row.item: row.value - theirs[row.item]
        for row in scores.series(first, metric)
        if row.value is not None and row.item in theirs
    }


def _moves(scores: Scores, first: Variant, second: Variant) -> list[Move]:
    """The items that both have in all perspectives, from the largest gain to the largest loss."""
    changes = {m: _paired(scores, first, second, m) for m in scores.perspectives}
    rows = {row.item: row for row in scores.series(first, scores.perspectives[0])}
    moves = []
    for item, row in rows.items():
        if all(item in change for change in changes.values()):
            parts = ", ".join(f"{m} {signed(change[item])}" for m, change in changes.items())
            mean = sum(change[item] for change in changes.values()) / len(changes)
            moves.append(Move(mean, row, " · ".join(t for t in (item, row.kind, parts) if t)))
    return sorted(moves, key=lambda move: (-move.change, move.row.item))
