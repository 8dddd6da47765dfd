"""Two variants against each other, item by item."""

from collections.abc import Sequence

from mre_jax.evaluation.statistics.compare import WinRate
from mre_jax.report.cells import MINUS, NOTHING, difference_cells, head, line, signed, table
from mre_jax.report.charts import share_bar
from mre_jax.report.markup import Markup, join, tag
from mre_jax.report.scores import Scores, Variant

_LISTED = 8  # items of the largest gains, and of the largest losses


def comparison(scores: Scores, first: Variant, second: Variant) -> Markup | None:
    """Differences, win rates, and the items that differ most; None if they share no item."""
    metrics = [metric for metric in scores.perspectives if _paired(scores, first, second, metric)]
    if not metrics:
        return None
    kinds = (True, False) if scores.has_answers else (False,)
    cells = iter(
        difference_cells(
            [
                (scores.difference(first, second, metric, accuracy=of), of)
                for metric in metrics
                for of in kinds
            ]
        )
    )
    lines, bars = [], []
    for metric in metrics:
        found = scores.win_rate(first, second, metric)
        lines.append(line(metric, [*(next(cells) for _ in kinds), *_wins(found)]))
        bars.append(_bar(metric, found))
    caption = (
        f"A: {first.label}. B: {second.label}. The rate counts half of the ties as wins. p is "
        f"corrected for the {len(metrics) * len(kinds)} differences of this table by Holm's method."
    )
    names = [f"A {MINUS} B, {'share of yes' if of else 'score'}" for of in kinds]
    names += ["A better", "equal", "B better", "Win rate of A"]
    return join(
        [
            table(caption, [head(*names, first="Perspective")], lines),
            tag("div", *bars, class_="charts"),
            _moves(scores, first, second),
        ]
    )


def _wins(found: WinRate) -> list[Markup]:
    """How often A is better, the same, or worse, and the rate with its interval."""
    bounds = NOTHING
    if found.interval is not None:
        bounds = f"[{100 * found.interval.low:.0f}, {100 * found.interval.high:.0f}]"
    counts = (found.wins, found.ties, found.losses)
    rate = tag("td", f"{100 * found.rate:.1f} %", tag("small", bounds))
    return [*(tag("td", f"{count}") for count in counts), rate]


def _bar(metric: str, found: WinRate) -> Markup:
    counts = (found.wins, found.ties, found.losses)
    total = sum(counts)
    names = [f"{name}: {count} of {total}" for name, count in zip(_OUTCOMES, counts, strict=True)]
    title = f"{metric}: {', '.join(names)}"
    bar = share_bar([count / total for count in counts], names, title=title)
    return tag("figure", tag("figcaption", metric), bar, class_="bar-figure")


_OUTCOMES = ("A better", "equal", "B better")


def _paired(scores: Scores, first: Variant, second: Variant, metric: str) -> dict[str, float]:
    """First less second by item, where both have a value."""
    theirs = {row.item: row.value for row in scores.series(second, metric) if row.value is not None}
    return {
        row.item: row.value - theirs[row.item]
        for row in scores.series(first, metric)
        if row.value is not None and row.item in theirs
    }


def _moves(scores: Scores, first: Variant, second: Variant) -> Markup:
    """The largest gains and losses in the mean of the perspectives."""
    changes = [_paired(scores, first, second, metric) for metric in scores.perspectives]
    shared = [item for item in changes[0] if all(item in change for change in changes)]
    rows = {row.item: row for row in scores.series(first, scores.perspectives[0])}
    ranked = sorted(
        ((sum(change[item] for change in changes) / len(changes), item) for item in shared),
        key=lambda pair: (-pair[0], pair[1]),
    )
    gains = [pair for pair in ranked if pair[0] > 0][:_LISTED]
    losses = [pair for pair in reversed(ranked) if pair[0] < 0][:_LISTED]
    lists = []
    for title, moved in (("Biggest gains of A", gains), ("Biggest losses of A", losses)):
        entries = [
            _move(
                change, item, rows[item].instruction, rows[item].kind, _parts(scores, changes, item)
            )
            for change, item in moved
        ]
        body = tag("ol", *entries) if entries else tag("p", "None.", class_="faint")
        lists.append(tag("div", tag("h3", title), body))
    return tag("div", *lists, class_="moves")


def _parts(scores: Scores, changes: Sequence[dict[str, float]], item: str) -> str:
    pairs = zip(scores.perspectives, changes, strict=True)
    return ", ".join(f"{metric} {signed(change[item])}" for metric, change in pairs)


def _move(change: float, item: str, instruction: str, kind: str, parts: str) -> Markup:
    facts = " · ".join(text for text in (item, kind, parts) if text)
    button = tag(
        "button", "Show", type="button", class_="show", value=item, aria_label=f"Show item {item}"
    )
    said = tag("span", instruction or item, tag("small", facts))
    return tag("li", tag("b", signed(change), class_="up" if change > 0 else "down"), said, button)
