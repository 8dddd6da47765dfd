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
from importlib import resources

from etils import epath

import mre_jax
from mre_jax.errors import DataError
from mre_jax.evaluation.provenance import check_comparable, comparable, describe
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.summary import rank
from mre_jax.io.files import write_atomically
from mre_jax.report.browser import browser
from mre_jax.report.comparison import comparison
from mre_jax.report.items import browser_data, list_pictures, script_json
from mre_jax.report.markup import Markup, join, tag
from mre_jax.report.people import pairs_of_judges, people_against_judge
from mre_jax.report.pictures import BUDGET, Pictures, place_pictures
from mre_jax.report.ranking import ranking
from mre_jax.report.response import contrast_matrix, contrasts, response_chart
from mre_jax.report.scores import Scores, Variant, by_suite, find_variant
from mre_jax.report.section import Section, section_body
from mre_jax.report.tables import (
    coverage_table,
    difference_table,
    kind_tables,
    other_table,
    score_table,
)

_HASH = 12  # characters of a hash that are shown


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write_report` has written.

    Attributes:
        bytes: of the page.
        items: that it shows.
        pictures: that stand in it or beside it.
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
        rows: of any systems, suites and metrics.
        root: the folder that the rows' pictures are relative to.
        title: of the page.
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
    parts = [(_named("Ranking", scores, suites), ranking(scores)) for scores in suites]
    parts += [(section.heading, section_body(section)) for section in sections]
    parts += [
        (_named("People against the judge", judge, suites), people_against_judge(people, judge))
        for people, judge in pairs_of_judges(suites)
    ]
    for scores in suites:
        parts += [(_named(name, scores, suites), body) for name, body in _parts(scores, chosen)]
    parts = [(name, body) for name, body in parts if body]
    script_data = None
    if data["items"]:
        parts.append(("Edits side by side", [browser()]))
        script_data = script_json(data)
    parts.append(("Provenance", [_facts(suites)]))
    page = _page(title, suites, placed, parts, script_data)
    encoded = page.encode("utf-8")
    write_atomically(out, encoded)
    shown = sum(bool(uri) for uri in placed.uris)
    beside = placed.bytes if placed.folder else 0
    return Written(len(encoded), len(data["items"]), shown, placed.notes, placed.folder, beside)


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
    return [tag("div", *figures, class_="charts")] if figures else []


def _page(
    title: str,
    suites: Sequence[Scores],
    pictures: Pictures,
    parts: Sequence[tuple[str, list[Markup]]],
    data: Markup | None,
) -> str:
    style, script = _resource("page.css"), _resource("page.js")
    policy = (
        f"default-src 'none'; img-src {_sources(pictures)}; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", style),
    )
    links = [tag("li", tag("a", name, href=f"#part-{n}")) for n, (name, _) in enumerate(parts)]
    contents = tag("nav", tag("ul", *links), aria_label="Contents")
    shown = [
        tag("section", tag("h2", name), *body, id=f"part-{n}")
        for n, (name, body) in enumerate(parts)
    ]
    notes = [tag("p", note, class_="note") for note in pictures.notes]
    header = tag("header", tag("h1", title), _summary(suites), *notes)
    scripts = []
    if data is not None:
        scripts = [tag("script", data, type="application/json", id="data"), tag("script", script)]
    body = tag("body", header, contents, tag("main", *shown), _footer(pictures), *scripts)
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _sources(pictures: Pictures) -> str:
    """Where pictures may come from: a page that lies on a disk has no origin of its own."""
    return "data: 'self' file:" if pictures.folder else "data:"


def _resource(name: str) -> Markup:
    return Markup(resources.files("mre_jax.report").joinpath(name).read_text(encoding="utf-8"))


def _hash(text: str) -> str:
    """A source expression of a content security policy that allows this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _summary(suites: Sequence[Scores]) -> Markup:
    """What was compared on how much, in a sentence a suite."""
    sentences = []
    for scores in suites:
        size = "no items"
        if scores.items:
            size = f"{len(scores.items):,} items of {scores.groups:,} pictures"
        names = ", ".join(variant.label for variant in scores.variants)
        sentences.append(tag("p", f"{scores.name}, {size}: {names}."))
    return join(sentences)


def _facts(suites: Sequence[Scores]) -> Markup:
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
    facts = [("Measured by", f"{name}: {_listed(of)}") for name, of in measures.items()]
    facts += [("Prompt", f"{name[:_HASH]}: {_listed(of)}") for name, of in prompts.items() if name]
    facts += [("Weights", f"{name[:_HASH]}: {_listed(of)}") for name, of in weights.items() if name]
    facts.append(("Date", _today()))
    terms = [part for name, text in facts for part in (tag("dt", name), tag("dd", text))]
    return tag("dl", *terms, class_="meta")


def _listed(names: dict[str, None]) -> str:
    return ", ".join(names)


def _footer(pictures: Pictures) -> Markup:
    text = f"Made by mre_jax {mre_jax.__version__}."
    if count := sum(bool(uri) for uri in pictures.uris):
        size = f"{pictures.bytes / 2**20:.1f} MiB"
        said = f"at most {pictures.side} pixels wide or high" if pictures.side else "as they were"
        text += f" {count:,} pictures, {size}, {said}."
    return tag("footer", tag("p", text))


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d, %H:%M UTC")
