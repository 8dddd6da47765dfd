"""What the demo leaves to look at: the report, its tables as a text, and the contact sheet."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from mre_jax.demo.claims import Claim
from mre_jax.demo.guided import guided_table
from mre_jax.demo.pictures import write_contact_sheet
from mre_jax.demo.plan import Plan
from mre_jax.demo.scored import scored
from mre_jax.demo.systems import BASELINE, BEST, REWARD, TABLES
from mre_jax.demo.telling import SHOWN, telling_edits
from mre_jax.demo.uses import measure_uses, uses_charts, uses_table
from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.compare import summarize
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.tables.fill import render
from mre_jax.io.files import write_atomically
from mre_jax.report.charts import Series, bar_chart
from mre_jax.report.gallery import Exhibit, Line, gallery
from mre_jax.report.html import Markup
from mre_jax.report.page import Section
from mre_jax.report.spec import ReportSpec
from mre_jax.reward.scores import PERSPECTIVES


def report_spec(plan: Plan) -> ReportSpec:
    """The page, without what the demo puts before and into it."""
    return ReportSpec(
        (str(plan.results),),
        out=str(plan.out / "report.html"),
        title="Rewards as a condition, in miniature",
        compare=(f"{REWARD} {BEST}", BASELINE),
    )


def write_page(
    plan: Plan, rows: Sequence[Result], claims: Sequence[Claim], say: Callable[[str], object]
) -> list[Path]:
    """Writes everything there is to look at, and says the tables; returns the files."""
    out, scale = plan.out, plan.scale
    tables = _tables(rows, every=scale.ablations)
    listed = "\n".join(["Differences of mean scores, 95 % intervals", *map(str, claims)])
    listed = listed if claims else "One scene is too few for claims."
    text = f"{tables}\n\n{listed}\n"
    sections = [Section("The paper's tables, of the toy world", table=tables)]
    parts = list(_uses(plan)) if scale.uses else []
    if scale.ablations:
        table = guided_table(rows, scale.reward_guidance_scale)
        parts.append(Section("What reward guidance does", _GUIDED, [], table))
    if parts:
        sections = [*parts, *sections]
        text += "".join(f"\n{part.heading}\n{part.table}\n" for part in parts)
    say(text)
    write_atomically(out / "tables.txt", text)
    opening = Section("What a reward does", _PROSE, [_opening(plan, rows, listed)])
    report_spec(plan).write(sections, opening=[opening])
    sheet = write_contact_sheet(rows, plan.results, out / "contact_sheet.png")
    return [out / "report.html", sheet, out / "first_edits.png", out / "tables.txt"]


def _uses(plan: Plan) -> Iterator[Section]:
    """Uses of rewards by share of clean triplets, and by judge."""
    exact = [round_ for round_ in plan.rounds if not round_.judge]
    erring = [round_ for round_ in plan.rounds if round_.judge]
    as_drawn = [round_ for round_ in exact if round_.share is None]
    parts = [("When does conditioning pay?", "clean", _USES, exact)]
    if erring:
        parts.append(("What a judge that errs costs", "judge", _JUDGES, [*as_drawn, *erring]))
    for title, name, prose, rounds in parts:
        found = measure_uses(plan, rounds)
        charts = uses_charts(found)
        for metric, chart in charts.items():
            write_atomically(plan.out / f"uses-by-{name}-{metric}.svg", chart)
        table = uses_table(found, judges=name == "judge")
        yield Section(title, prose, [], table, list(charts.values()))


def _opening(plan: Plan, rows: Sequence[Result], claims: str) -> Markup:
    lines = []
    for one in telling_edits(rows):
        exhibits = [Exhibit("original", plan.results / one.row.original)]
        for (label, _, _), edit in zip(SHOWN, one.edits, strict=True):
            scores = {name: edit[name].value or 0.0 for name in PERSPECTIVES if name in edit}
            picture = plan.results / next(iter(edit.values())).edited
            exhibits.append(Exhibit(label, picture, scores))
        lines.append(Line(one.row.kind, one.row.instruction, exhibits))
    items = len({row.item for row in rows if row.suite == "real-edit"})
    caption = f"Mean scores of all {items} edits of each editor, with 95 % intervals."
    return gallery(lines, _bars(rows), caption, note=_NOTE, facts=claims)


def _bars(rows: Sequence[Result]) -> Markup:
    """A group of bars a perspective, a bar each of `SHOWN`."""
    series = []
    for label, system, condition in SHOWN:
        points = []
        for place, metric in enumerate(PERSPECTIVES):
            summary = summarize(scored(rows, system, condition, metric), Bootstrap())
            if summary.mean is not None:
                mean, bounds = summary.mean, summary.interval
                points.append(
                    (place, mean, *((bounds.low, bounds.high) if bounds else (mean,) * 2))
                )
        series.append(Series(label, *zip(*points, strict=True)))
    title = "mean scores by perspective"
    return bar_chart(PERSPECTIVES, series, title=title, y_label="mean score, 95 % interval")


def _tables(rows: Sequence[Result], *, every: bool) -> str:
    found = {row.system for row in rows}
    texts = []
    for number, sources in TABLES.items():
        if every or number in (1, 6, 8):
            there = {label: row for label, row in sources.items() if row.system in found}
            texts.append(render(number, rows, systems=there, intervals=Bootstrap()))
    return "\n\n".join(texts)


_PROSE = """\
The same small editor was trained twice on the same flawed examples: once without their rewards, and
once with them as a condition. The scenes are ones that no editor has seen. Of each type of
instruction the most telling edit is shown; the bars are of all."""

_NOTE = """\
Below each picture: following, preserving and quality, 0 to 5, by exact judges. A low reward is
asked for with the words that come with it; "guided" is 5,5,5 with reward guidance away from 0,0,0.
An interval is from a bootstrap that draws whole pictures, since the seven instructions of a picture
share it; a difference is of pairs of edits."""

_GUIDED = """\
Every line is an editor that is asked for 5,5,5: its scores without guidance, and what guidance away
from another reward adds to them. "reward dropout" lost its reward in a tenth of its training, so
that it can be guided away from none."""

_USES = """\
Every line is trained from the same editor, on the same triplets, for as many steps, and asked for
the best where it can be asked. Intervals are over pictures; where every use was trained with
several seeds, over the seeds."""

_JUDGES = """\
The rewards are of a judge that errs as stated: "noise" is the standard deviation of its error in
points, "bias" what it gives too much; "as drawn" is the exact judge. Scores are exact; "by it" is
what the judge who gave the rewards, and picked the best of several, says of the same edits."""
