"""The whole page: one file that shows everything with nothing beside it.

Style and script stand in the page, and its policy lets exactly these two run, by their hashes:
whatever else a text from the results might become, it is not executed, and nothing is fetched.
"""

import base64
import collections
import dataclasses
import datetime
import hashlib
from collections.abc import Sequence

from etils import epath

import mre_jax
from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable, comparable, describe
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.pairs import all_pair_scores
from mre_jax.evaluation.statistics.summary import rank
from mre_jax.io.files import write_atomically
from mre_jax.report.comparison import comparison
from mre_jax.report.html import Markup, render, resource
from mre_jax.report.items import browser_data, list_pictures, script_json
from mre_jax.report.pairs import pair_section
from mre_jax.report.people import pairs_of_judges, people_against_judge
from mre_jax.report.pictures import BUDGET, Pictures, place_pictures
from mre_jax.report.ranking import ranking
from mre_jax.report.response import contrast_matrix, contrasts, response_chart
from mre_jax.report.scores import Scores, Variant, by_suite, find_variant
from mre_jax.report.tables import (
    coverage_table,
    difference_table,
    kind_tables,
    other_table,
    score_table,
)

_HASH = 12  # characters of a hash that are shown


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG that is shown as it is.

    Attributes:
        png: the file's bytes.
        text: what it shows, for those who do not see it.
    """

    png: bytes
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page that its caller brings; below the heading the fields follow in order.

    Attributes:
        heading: also the entry in the page's list of contents.
        prose: paragraphs, with empty lines between them.
        parts: HTML that the report's functions have made.
        table: text in columns, as `mre tables` prints it.
        charts: figures of `mre_jax.report.charts`.
        pictures: shown as they are; they are not part of the page's budget.
    """

    heading: str
    prose: str = ""
    parts: Sequence[Markup] = ()
    table: str = ""
    charts: Sequence[Markup] = ()
    pictures: Sequence[Picture] = ()


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write_report` has written.

    Attributes:
        bytes: size of the page.
        items: items that it shows.
        pictures: pictures in it or beside it.
        notes: what is not in it as it was, and why; also said in the page.
        folder: beside it, of its pictures; "" if they stand in it.
        beside: bytes of the pictures in the folder.
    """

    bytes: int
    items: int
    pictures: int
    notes: Sequence[str]
    folder: str = ""
    beside: int = 0


def write_report(
    out: epath.PathLike,
    rows: Sequence[Result],
    *,
    root: epath.PathLike,
    title: str,
    pairs: Sequence[Result] = (),
    opening: Sequence[Section] = (),
    sections: Sequence[Section] = (),
    compare: tuple[str, str] | None = None,
    pictures: str = "auto",
    budget: int = BUDGET,
    bootstrap: Bootstrap | None = None,
    apart: bool = False,
) -> Written:
    """Writes the page.

    Args:
        out: the HTML file.
        rows: results of any systems, suites and metrics.
        root: the folder that the rows' pictures are relative to.
        title: title of the page.
        pairs: rows of comparisons; see `Result.against`.
        opening: what the page begins with.
        sections: put behind the ranking, before what else the rows give.
        compare: two variants, as "reward 5,5,5" or by the system's name where that is enough.
        pictures: "inside" the page, made smaller to fit the budget; "beside" it, in a folder, as
            they are; "auto": there if the budget is too small for them.
        budget: largest number of bytes of all pictures in the page together.
        bootstrap: for the intervals.
        apart: systems may have been judged in different ways; see `provenance.side_by_side`.

    Raises:
        ConfigError: if `compare` names what is not there, or `pictures` is none of these.
        DataError: if there are no rows, or rows of one metric of different judges or prompts.
    """
    if not rows:
        raise DataError("no results to report on")
    suites = by_suite(rows, bootstrap, apart=apart)
    chosen = _chosen(suites, compare)
    names = list_pictures(suites)
    placed = place_pictures(out, root, names, place=pictures, budget=budget)
    data = browser_data(suites, names, placed.uris, chosen)
    parts = _sections(opening)
    parts += [(_named("Ranking", scores, suites), ranking(scores)) for scores in suites]
    parts += [
        (f"{one.suite}: {one.metric}, two by two", pair_section(one))
        for one in all_pair_scores(pairs, bootstrap)
    ]
    parts += _sections(sections)
    parts += [
        (_named("People against the judge", judge, suites), people_against_judge(people, judge))
        for people, judge in pairs_of_judges(suites)
    ]
    for scores in suites:
        parts += [(_named(name, scores, suites), body) for name, body in _parts(scores, chosen)]
    if data["items"]:
        parts.append(("Edits side by side", [render("browser.html")]))
    parts.append(("Provenance", [render("facts.html", facts=_facts(suites))]))
    style, script = resource("page.css"), resource("page.js")
    page = render(
        "page.html",
        title=title,
        suites=suites,
        pictures=placed,
        shown=sum(bool(uri) for uri in placed.uris),
        parts=[(name, body) for name, body in parts if body],
        data=script_json(data) if data["items"] else None,
        policy=_policy(style, script, placed),
        style=style,
        script=script,
        version=mre_jax.__version__,
    )
    encoded = page.encode("utf-8")
    write_atomically(out, encoded)
    shown = sum(bool(uri) for uri in placed.uris)
    beside = placed.bytes if placed.folder else 0
    return Written(len(encoded), len(data["items"]), shown, placed.notes, placed.folder, beside)


def _sections(sections: Sequence[Section]) -> list[tuple[str, list[Markup]]]:
    return [(section.heading, [render("section.html", section=section)]) for section in sections]


def _named(name: str, scores: Scores, suites: Sequence[Scores]) -> str:
    return f"{scores.name}: {name}" if len(suites) > 1 else name


def _chosen(
    suites: Sequence[Scores], compare: tuple[str, str] | None
) -> tuple[Variant, Variant] | None:
    """The variants to compare: those asked for, or both if there are two."""
    variants = list(dict.fromkeys(variant for scores in suites for variant in scores.variants))
    if compare is not None:
        first, second = (find_variant(variants, name) for name in compare)
        for scores in suites:
            check_comparable(scores.rows_of(first, second))
        return first, second
    if len(variants) == 2 and all(comparable(scores.rows) for scores in suites):
        return variants[1], variants[0]
    return None


def _parts(
    scores: Scores, chosen: tuple[Variant, Variant] | None
) -> list[tuple[str, list[Markup]]]:
    """Headings and contents that one suite gives; those without contents are left out later."""
    reference = chosen[1] if chosen else scores.variants[0]
    systems = list(dict.fromkeys(variant.system for variant in scores.variants))
    tables = [score_table(scores), other_table(scores), difference_table(scores, reference)]
    curves = [response_chart(scores, system) for system in systems]
    matrices = [
        contrast_matrix(scores, contrast)
        for system in systems
        for contrast in contrasts(scores, system)
    ]
    return [
        ("Scores", [*_some(tables), *_some([coverage_table(scores)])]),
        ("What is asked, and what is achieved", _charts([*_some(curves), *matrices])),
        ("By type of instruction", _charts(kind_tables(scores))),
        ("A against B", _some([comparison(scores, *chosen)]) if chosen else []),
    ]


def _some(parts: Sequence[Markup | None]) -> list[Markup]:
    return [part for part in parts if part is not None]


def _charts(figures: Sequence[Markup]) -> list[Markup]:
    return [render("charts.html", figures=figures)] if figures else []


def _policy(style: str, script: str, pictures: Pictures) -> str:
    """What the page may do; a page that lies on a disk has no origin of its own."""
    images = "data: 'self' file:" if pictures.folder else "data:"
    return (
        f"default-src 'none'; img-src {images}; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    """A source expression of a content security policy that allows this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(suites: Sequence[Scores]) -> list[tuple[str, str]]:
    """Who measured, with which prompts, and which weights were measured."""
    measures: dict[str, dict[str, None]] = collections.defaultdict(dict)
    prompts: dict[str, dict[str, None]] = collections.defaultdict(dict)
    weights: dict[str, dict[str, None]] = collections.defaultdict(dict)
    rows = [row for scores in suites for row in scores.rows]
    for row in sorted(rows, key=lambda row: rank(row.metric)):
        if row.status == "ok":
            measures[describe(row)][row.metric] = None
        prompts[row.prompt_hash][row.metric] = None
        weights[row.checkpoint][row.system] = None
    facts = [("Measured by", f"{name}: {', '.join(of)}") for name, of in measures.items()]
    facts += [
        ("Prompt", f"{name[:_HASH]}: {', '.join(of)}") for name, of in prompts.items() if name
    ]
    facts += [
        ("Weights", f"{name[:_HASH]}: {', '.join(of)}") for name, of in weights.items() if name
    ]
    facts.append(("Date", _today()))
    return facts


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d, %H:%M UTC")
