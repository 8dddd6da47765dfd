"""Tables for a terminal: aligned columns of text."""

from collections.abc import Sequence


def columns(
    rows: Sequence[Sequence[str]], *, right: Sequence[int] = (), headed: bool = False
) -> str:
    """Rows as lines whose cells begin, or end, below each other; two spaces between.

    Args:
        rows: texts of one line; all rows have as many.
        right: columns that end below each other, as numbers do.
        headed: whether a line is drawn below the first row.

    Example:
        >>> print(columns([("chip", "hours"), ("v5e", "12"), ("v6e", "3.4")], right=[1]))
        chip  hours
        v5e      12
        v6e     3.4
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    if headed:
        lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)
