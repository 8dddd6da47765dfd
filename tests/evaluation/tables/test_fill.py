import csv
import dataclasses
import io

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.results import WHOLE_SET
from mre_jax.evaluation.statistics.coefficients import krippendorff_alpha
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.tables.fill import Source, build, render
from mre_jax.evaluation.tables.formats import WRITERS, neutral, plain
from mre_jax.evaluation.tables.layout import LAYOUTS
from mre_jax.evaluation.tables.people import items_table
from tests.evaluation.rows import make_row, series

PERSPECTIVES = ("following", "preserving", "quality")


def judged(system, scores=(2.0, 4.0), **fields):
    return [
        row
        for metric in PERSPECTIVES
        for row in series(scores, system=system, metric=metric, **fields)
    ]


def values(number, label):
    (row,) = (row for row in LAYOUTS[number].rows if row.label == label)
    return row.values


def test_table_4_as_text():
    rows = [*judged("baseline"), *judged("reward", (3.0, 4.5))]
    systems = {"none": Source("baseline"), "score+text": Source("reward")}
    assert render(4, rows, systems=systems) == (
        "Table 4: The two parts of the reward\n"
        "                Following         Preserving         Quality\n"
        "#  Score  Text        Acc  Score         Acc  Score      Acc  Score  Coverage\n"
        "-  -----  ----  ---------  -----  ----------  -----  -------  -----  --------\n"
        "1                     50%   3.00         50%   3.00      50%   3.00  2/2\n"
        "4  ✓      ✓          100%   3.75        100%   3.75     100%   3.75  2/2\n"
        "Measured by toy-1.\n"
    )


def test_table_9_as_latex_with_the_papers_numbers():
    rows = [*judged("Original", suite="challenging"), *judged("mine_2", suite="challenging")]
    rows = [row for row in rows if not (row.system == "mine_2" and row.metric == "quality")]
    assert render(9, rows, "latex", paper=True) == (
        "\\begin{table}\n\\centering\n\\caption{Training examples with scores of 2 or less}\n"
        "\\begin{tabular}{lrrrr}\n\\toprule\n"
        "Method & Following & Preserving & Quality & Coverage \\\\\n\\midrule\n"
        "Original & 3.00 (1.15) & 3.00 (1.69) & 3.00 (1.99) & 2/2 \\\\\n"
        "Ours & 3.00 (2.92) & 3.00 (4.10) & - (3.68) & 2/2 \\\\\n"
        "\\bottomrule\n\\end{tabular}\n"
        "\\par\\footnotesize Measured by toy-1.\n"
        "\\par\\footnotesize In round brackets: the paper's numbers, ICLR 2025 (its judge: "
        "gpt-4o-2024-08-06).\n"
        "\\par\\footnotesize Not the protocol of the published numbers: judge toy-1 (theirs "
        "gpt-4o-2024-08-06); pack not recorded (theirs paper-evaluation).\n"
        "\\par\\footnotesize Missing: Ours (Quality).\n\\end{table}\n"
    )


def test_table_10_as_markdown_with_intervals():
    rows = judged("all", (1, 1, 1, 3, 3, 3), per_group=3)
    text = render(10, rows, "markdown", systems={"all": Source("all")}, intervals=Bootstrap(200))
    assert "| IF | DP | GQ | Following | Preserving | Quality | Coverage |" in text
    assert "| ✓ | ✓ | ✓ | 2.00 \\[0.00, 5.00\\] |" in text
    assert "95% intervals" in text


def test_csv_has_bare_numbers_and_a_column_each():
    rows = judged("InsPix2Pix", (2, 4, 4))
    text = render(1, rows, "csv", systems={"InsPix2Pix": Source("InsPix2Pix")}, paper=True)
    table = {row["Method"]: row for row in csv.DictReader(io.StringIO(text))}
    assert table["InsPix2Pix"]["Following Acc %"] == "66.6667"
    assert table["InsPix2Pix"]["Following Acc % (paper)"] == "52"
    assert table["InsPix2Pix"]["Coverage"] == "3/3"
    assert (
        table["MGIE"]["Following Score"] == ""
        and table["MGIE"]["Following Score (paper)"] == "2.43"
    )


@pytest.mark.parametrize("number", LAYOUTS)
@pytest.mark.parametrize("format", WRITERS)
def test_every_table_has_a_form_without_results(number, format):
    text = render(number, [], format, paper=True)
    for row in LAYOUTS[number].rows:
        for column, value in zip(LAYOUTS[number].columns, row.values, strict=True):
            if value is None:
                continue
            printed = f"{value:g}" if format == "csv" else f"({value:.{column.decimals}f}"
            assert printed in text


def test_rows_are_as_wide_as_their_headings():
    for table in LAYOUTS.values():
        labels = [row.label for row in table.rows]
        assert len(set(labels)) == len(labels)
        for row in table.rows:
            assert len(row.lead) == len(table.lead)
            assert len(row.values) == len(table.columns)


def test_the_papers_numbers_are_those_its_text_speaks_of():
    def gain(number, to, start, column):
        return round(values(number, to)[column] - values(number, start)[column], 2)

    # Section 6.2: accuracy and score of following, preserving and quality.
    gains = [gain(1, "Reward-InsPix2Pix", "InsPix2Pix", column) for column in range(6)]
    assert gains == [11, 0.45, 5, 0.12, 4, 0.11]
    gains = [gain(2, "Reward-InsPix2Pix", "InsPix2Pix", column) for column in (0, 1)]
    gains += [gain(2, "Reward-SmartEdit", "SmartEdit", column) for column in (0, 1)]
    assert gains == [3.5, 0.6, 0.9, 0.2]
    # Section 6.4: accuracies.
    assert [gain(4, "score", "none", column) for column in (0, 2, 4)] == [12, 17, 21]
    assert [gain(4, "text", "none", column) for column in (0, 2, 4)] == [11, 14, 19]
    assert [gain(5, "attention", "none", column) for column in (0, 2, 4)] == [11, 8, 16]
    assert [gain(5, "addition", "none", column) for column in (0, 2, 4)] == [8, 18, 20]
    assert [gain(6, "5,5,5", "0,0,0", column) for column in (0, 2, 4)] == [9, 28, 19]
    # The full model is one in six tables, the plain baseline one in three.
    full = values(1, "Reward-InsPix2Pix")
    assert full == values(4, "score+text") == values(5, "attention+addition") == values(6, "5,5,5")
    assert full[1::2] == values(8, "Ours") == values(10, "all") == values(11, "256")
    assert values(4, "none") == values(5, "none")
    assert values(4, "none")[1::2] == values(8, "Baseline 0.30M")
    assert [values(10, name)[i] for i, name in enumerate(PERSPECTIVES)] == [3.40, 3.54, 3.95]


def test_other_systems_are_further_rows_of_the_lists():
    rows = [
        *judged("InsPix2Pix"),
        *judged("toy", condition="5,5,5"),
        *judged("toy", condition="0,0,0"),
    ]
    labels = [row.label for row in build(1, rows).rows]
    assert labels[-2:] == ["toy 5,5,5", "toy 0,0,0"]
    assert "KOSMOS-G" in build(1, rows).missing and "InsPix2Pix" not in build(1, rows).missing


def test_a_sweep_fills_table_6_and_adds_its_own_points():
    rows = [r for c in ("0,0,0", "4,4,4", "5,5,5") for r in judged("reward", condition=c)]
    table = build(6, rows)
    assert [row.label for row in table.rows] == ["0,0,0", "3,3,3", "5,5,5", "4,4,4"]
    assert table.rows[3].lead == ("4", "4", "4", "4")
    assert table.missing == ("3,3,3",)
    assert build(6, [*rows, *judged("other", condition="5,5,5")]) == table  # no sweep
    other = [r for c in ("0,0,0", "5,5,5") for r in judged("other", condition=c)]
    with pytest.raises(DataError, match="several systems, reward, other"):
        build(6, [*rows, *other])
    single = [*judged("a", condition="5,5,5"), *judged("b", condition="5,5,5")]
    assert build(6, single).missing == ("0,0,0", "3,3,3", "5,5,5")


def test_a_row_of_two_conditions_must_be_told_which():
    rows = [*judged("reward", condition="5,5,5"), *judged("reward", condition="0,0,0")]
    with pytest.raises(DataError, match="'5,5,5' and '0,0,0'; say which"):
        build(4, rows, systems={"text": Source("reward")})
    table = build(4, rows, systems={"text": Source("reward", "5,5,5")})
    assert table.rows[0].cells[1].value == 3


def test_cells_left_of_the_numbers_can_be_given():
    rows = judged("toy")
    lead = ("Baseline", "8000")
    table = build(8, rows, systems={"Baseline 0.30M": Source("toy", lead=lead)})
    assert table.rows[0].lead == lead
    with pytest.raises(ConfigError, match=r"want 2 \(Method, Edit Data\)"):
        build(8, rows, systems={"Ours": Source("toy", lead=("one",))})


def test_people_fill_table_3_alone():
    """By who scored: a judge model may be called "human-like", and a study anything."""
    people = {"people": True, "measure": "study A", "passed": None}
    rows = [
        *judged("SmartEdit", measure="human-like-7b"),
        *judged("SmartEdit", (1.0, 1.0), **people),
        make_row(system="SmartEdit", item="8-1", status="missing", **people | {"measure": ""}),
    ]
    (theirs, _) = build(3, rows).rows
    assert (theirs.cells[0].value, theirs.coverage) == (
        1,
        "following 2/3, 1 missing; preserving 2/2; quality 2/2",
    )
    (row,) = build(1, rows, systems={"SmartEdit": Source("SmartEdit")}).rows
    assert (row.cells[1].value, row.coverage) == (3, "2/2")


def test_agreement_stands_below_people_s_scores():
    given = [{"ann": 1, "bob": 2}, {"ann": 3, "bob": 3}, {"ann": 5, "bob": 4}, {"ann": 2, "bob": 2}]
    rows = [
        dataclasses.replace(row, provenance={"annotators": scores})
        for metric in PERSPECTIVES
        for row, scores in zip(
            series([1.5, 3, 4.5, 2], per_group=1, system="SmartEdit", metric=metric, people=True),
            given,
            strict=True,
        )
    ]
    (note,) = (note for note in build(3, rows).notes if note.startswith("Agreement"))
    alpha = krippendorff_alpha([list(scores.values()) for scores in given], list("abcd")).value
    assert (
        f"Agreement of 2 annotators: Krippendorff's alpha (ordinal) following {alpha:.2f}" in note
    )
    assert "Cohen's quadratic kappa following" in note
    (note,) = (n for n in build(3, rows, intervals=Bootstrap(50)).notes if n.startswith("Agree"))
    assert f"following {alpha:.2f} [" in note
    single = [dataclasses.replace(row, provenance={"annotators": {"ann": 1}}) for row in rows]
    assert not any(note.startswith("Agreement") for note in build(3, single).notes)


def test_people_and_judge_edit_by_edit_begin_where_they_differ_most():
    rows = [
        *judged("A", (1.0, 4.0)),
        *judged("A", (1.5, 1.0), people=True, measure="study"),
        *judged("B", (2.0, 2.0)),
    ]
    table = items_table(rows)
    assert [row.lead for row in table.rows] == [("A", "0-2"), ("A", "0-1")]
    assert [cell.value for cell in table.rows[0].cells] == [1, 4] * 3
    assert [column.name for column in table.layout.columns] == ["People", "Judge"] * 3
    assert items_table(judged("A")) is None


def test_judges_are_not_mixed_in_a_table():
    rows = [*judged("InsPix2Pix"), *judged("MGIE", measure="gpt-4o-2024-08-06")]
    with pytest.raises(DataError, match="different judges"):
        render(1, rows)


def test_coverage_tells_what_became_of_the_items():
    refused = make_row(item="8-1", status="refused", system="MGIE")
    rows = [*judged("MGIE"), refused]
    (row,) = build(1, rows, systems={"MGIE": Source("MGIE")}).rows
    assert row.coverage == "following 2/3, 1 refused; preserving 2/2; quality 2/2"


def test_a_value_of_the_whole_set_is_no_coverage():
    clip = series([0.25, 0.27], suite="table7", metric="clip_following", system="MGIE")
    fid = make_row(suite="table7", metric="fid_64", system="MGIE", item=WHOLE_SET, value=3.1)
    (row,) = build(7, [*clip, fid], systems={"MGIE": Source("MGIE")}).rows
    assert row.coverage == "2/2"
    assert [cell.value for cell in row.cells] == [pytest.approx(26.0), None, 3.1]


@pytest.mark.parametrize("format", WRITERS)
def test_nothing_in_a_name_acts_on_the_reader(format):
    name = '=HYPERLINK("http://x")|a & b_c % $d {e} \\input{f} <script> \x1b[31m\u202e\n- g'
    text = render(1, judged(name), format, systems={name: Source(name)})
    assert "\x1b" not in text and "\u202e" not in text
    if format == "csv":
        (row,) = csv.reader(io.StringIO(text.partition("\n")[2]))
        assert row[0].startswith("'=HYPERLINK")
    if format == "latex":
        line = next(line for line in text.splitlines() if "HYPERLINK" in line)
        assert r"\textbackslash{}input\{f\}" in line and r"b\_c \% \$d" in line
        assert line.count(" & ") == 8
    if format == "markdown":
        line = next(line for line in text.splitlines() if "HYPERLINK" in line)
        assert "\\|a" in line and "&lt;script&gt;" in line
        assert line.replace("\\|", "").count("|") == 10
    if format == "text":
        assert sum("HYPERLINK" in line for line in text.splitlines()) == 2 - (" g" in text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\u200b=1"])
def test_a_formula_is_made_a_text(text):
    assert neutral(text)[0] == "'"


@pytest.mark.parametrize("sign", "=+-@")
def test_a_formula_may_begin_with_a_full_width_sign(sign):
    wide = chr(ord(sign) + 0xFEE0)
    assert neutral(f"{wide}1") == f"'{wide}1"


def test_plain_keeps_what_people_write():
    assert plain("Größe — 猫 👍") == "Größe — 猫 👍"


def test_unknown_tables_and_formats_are_named():
    with pytest.raises(ConfigError, match="table 19: the paper has Tables 1 to 11; 12 and 13"):
        render(19, [])
    with pytest.raises(ConfigError, match="format 'pdf'"):
        render(1, [], "pdf")
