"""A table as text, Markdown, LaTeX or CSV, with everything in it made harmless for its reader.

Names of systems come from files: whatever could end a cell, start a command or a formula, or steer
a terminal is escaped or taken out.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby

from mre_jax.evaluation.tables.layout import Column, Lead
from mre_jax.evaluation.tables.table import Cell, Table

TICK = "✓"
NOTHING = "-"


def to_text(table: Table) -> str:
    """Aligned columns for a terminal; below them the notes."""
    heads = _headings(table)
    body = [[plain(text) for text in line] for line in _body(table, tick=TICK)]
    lines = [*heads, *body]
    widths = [max(len(line[index]) for line in lines) for index in range(len(lines[0]))]
    first = len(table.layout.lead)
    numbers = range(first, first + len(table.layout.columns))
    printed = [_aligned(line, widths, numbers) for line in lines]
    printed.insert(len(heads), "  ".join("-" * width for width in widths))
    notes = [plain(note) for note in table.notes]
    return "\n".join([_title(table), *printed, *notes]) + "\n"


def to_markdown(table: Table) -> str:
    """A table of GitHub's Markdown."""
    left = len(table.layout.lead)
    heads = [*table.layout.lead, *(column.heading for column in table.layout.columns)]
    heads += _coverage_heading(table)
    rule = ["---" if index < left else "---:" for index in range(len(heads))]
    lines = [heads, rule, *([_markdown(text) for text in line] for line in _body(table, tick=TICK))]
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [f"\n{_markdown(note)}" for note in table.notes]
    return "\n".join([f"**{_title(table)}**\n", *rows, *notes]) + "\n"


def to_latex(table: Table) -> str:
    """A `table` environment; wants the packages booktabs and amssymb."""
    left = len(table.layout.lead)
    width = left + len(table.layout.columns) + len(_coverage_heading(table))
    heads = [" & ".join(_latex(text) for text in line) + r" \\" for line in _headings(table)[-1:]]
    above = _latex_groups(table)
    body = [" & ".join(_latex(text) for text in line) + r" \\" for line in _body(table, tick=TICK)]
    notes = [r"\par\footnotesize " + _latex(note) for note in table.notes]
    return (
        "\n".join(
            [
                r"\begin{table}",
                r"\centering",
                rf"\caption{{{_latex(table.layout.title)}}}",
                rf"\begin{{tabular}}{{{'l' * left}{'r' * (width - left)}}}",
                r"\toprule",
                *above,
                *heads,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                *notes,
                r"\end{table}",
            ]
        )
        + "\n"
    )


def to_csv(table: Table) -> str:
    """One line a row, numbers bare; no notes. What a spreadsheet would run begins with "'"."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = list(table.layout.lead)
    intervals = any(cell.interval for row in table.rows for cell in row.cells)
    paper = any(cell.paper is not None for row in table.rows for cell in row.cells)
    for column in table.layout.columns:
        name = f"{column.heading} {column.unit}".strip()
        heads += [name]
        heads += [f"{name} low", f"{name} high"] if intervals else []
        heads += [f"{name} (paper)"] if paper else []
    writer.writerow([*heads, "Coverage"])
    for row in table.rows:
        line = [neutral(_lead(item, "yes")) for item in row.lead]
        for cell in row.cells:
            interval = cell.interval
            line += [_bare(cell.value)]
            if intervals:
                line += [_bare(interval.low if interval else None)]
                line += [_bare(interval.high if interval else None)]
            line += [_bare(cell.paper)] if paper else []
        writer.writerow([*line, neutral(row.coverage)])
    return out.getvalue()


def neutral(text: str) -> str:
    """A text that no spreadsheet takes for a formula, on one line."""
    text = plain(text)
    # Some spreadsheets take full-width signs for the plain ones.
    return f"'{text}" if unicodedata.normalize("NFKC", text[:1]) in _SIGNS else text


def plain(text: str) -> str:
    """The text without control characters and changes of writing direction, on one line."""
    kept = (" " if c.isspace() else c for c in text if c.isspace() or not _is_control(c))
    return "".join(kept).strip()


_SIGNS = ("=", "+", "-", "@")

WRITERS: dict[str, Callable[[Table], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
}


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")


def _title(table: Table) -> str:
    layout = table.layout
    name = f"{layout.kind} {layout.number}" if layout.number else layout.kind
    return f"{name}: {layout.title}"


def _headings(table: Table) -> list[list[str]]:
    """One or two lines of headings; a group stands over its first column."""
    columns = table.layout.columns
    coverage = _coverage_heading(table)
    lines = [[*table.layout.lead, *(column.name for column in columns), *coverage]]
    if any(column.group for column in columns):
        groups = [
            column.group if index == 0 or columns[index - 1].group != column.group else ""
            for index, column in enumerate(columns)
        ]
        lines.insert(0, [*[""] * len(table.layout.lead), *groups, *[""] * len(coverage)])
    return lines


def _coverage_heading(table: Table) -> list[str]:
    return ["Coverage"] if any(row.coverage for row in table.rows) else []


def _body(table: Table, tick: str) -> list[list[str]]:
    coverage = bool(_coverage_heading(table))
    return [
        [
            *(_lead(item, tick) for item in row.lead),
            *(_number(c, cell) for c, cell in zip(table.layout.columns, row.cells, strict=True)),
            *([row.coverage] if coverage else []),
        ]
        for row in table.rows
    ]


def _lead(item: Lead, tick: str) -> str:
    if isinstance(item, bool):
        return tick if item else ""
    return item


def _number(column: Column, cell: Cell) -> str:
    parts = [NOTHING if cell.value is None else _decimal(column, cell.value) + column.unit]
    if cell.interval is not None:
        low, high = (_decimal(column, end) for end in (cell.interval.low, cell.interval.high))
        parts.append(f"[{low}, {high}]")
    if cell.paper is not None:
        parts.append(f"({_decimal(column, cell.paper)}{column.unit})")
    return " ".join(parts)


def _decimal(column: Column, value: float) -> str:
    return f"{value:.{column.decimals}f}"


def _bare(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _aligned(line: Sequence[str], widths: Sequence[int], numbers: range) -> str:
    cells = [
        text.rjust(width) if index in numbers else text.ljust(width)
        for index, (text, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _latex_groups(table: Table) -> list[str]:
    if not any(column.group for column in table.layout.columns):
        return []
    left = len(table.layout.lead)
    cells, rules, start = [""] * left, [], left + 1
    for group, columns in groupby(table.layout.columns, key=lambda column: column.group):
        span = len(list(columns))
        cells.append(rf"\multicolumn{{{span}}}{{c}}{{{_latex(group)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    cells += [""] * len(_coverage_heading(table))
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _markdown(text: str) -> str:
    text = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", plain(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # at the start of a row it would be taken for an option of the \\ before it
    "]": "{]}",
    TICK: r"$\checkmark$",
    "↓": r"$\downarrow$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in plain(text))
