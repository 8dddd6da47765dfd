"""Published rows of benchmarks beside ours, and whether both came about in the same way."""

import pytest

from mre_jax.evaluation.results import append_results, read_results
from mre_jax.evaluation.statistics.compare import macro_mean
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.tables.fill import build
from mre_jax.evaluation.tables.layout import LAYOUTS
from tests.evaluation.rows import make_row

GEDIT = {"pack": "gedit-official", "pictures": "as-original"}


def gedit(scores, language="en", **fields):
    """Rows of edits by (type, score, whether of the intersection)."""
    return [
        make_row(
            suite="gedit",
            metric=metric,
            item=f"{language}{number}",
            group=f"{language}{number}",
            kind=kind,
            value=float(score),
            passed=None,
            subsets=(language, f"{language} intersection") if shared else (language,),
            **{"measure": "gpt-4.1-2025-04-14", "provenance": GEDIT, **fields},
        )
        for metric in ("sc", "pq", "overall")
        for number, (kind, score, shared) in enumerate(scores)
    ]


@pytest.mark.parametrize("number", LAYOUTS)
def test_every_published_row_fits_its_table(number):
    table = LAYOUTS[number]
    labels = [row.label for row in table.rows]
    assert labels and len(set(labels)) == len(labels)
    for row in table.rows:
        assert (len(row.lead), len(row.values)) == (len(table.lead), len(table.columns))
    if table.kind == "Further table":
        assert table.published


@pytest.mark.parametrize("number", [14, 15, 16])
def test_published_means_are_the_means_of_their_types(number):
    """Typing errors show: overall is about the mean of nine types (the leaderboard's is up to 0.045
    away), or less than the root of the means of both scores, as the mean of roots is."""
    for row in LAYOUTS[number].rows:
        if number == 16:
            assert row.values[-1] == pytest.approx(sum(row.values[:-1]) / 9, abs=0.05)
            continue
        for sc, pq, overall in (row.values[:3], row.values[3:]):
            assert 0.65 < overall / (sc * pq) ** 0.5 < 1


def test_gedit_has_languages_and_intersections_and_counts_types_alike(tmp_path):
    scores = [("a", 2, True), ("a", 4, False), ("b", 8, True)]
    append_results(tmp_path / "r.jsonl", gedit(scores) + gedit([("a", 9, True)], "cn"))
    rows = read_results(tmp_path / "r.jsonl")
    table = build(14, rows, paper=True)
    assert [cell.value for cell in table.rows[-1].cells] == [5, 5, 5, 5.5, 5.5, 5.5]
    assert [cell.paper for cell in table.rows[0].cells] == [3.335, 6.21, 3.234, 3.296, 6.189, 3.219]
    assert table.rows[-1].coverage == "3/3"
    (ours,) = build(15, rows).rows  # of others' systems, only those that we have are listed
    assert {cell.value for cell in ours.cells} == {9}


def test_another_protocol_is_named_and_the_same_is_not():
    scores = [("a", 2, True), ("b", 4, True)]
    said = "Not the protocol of the published numbers: "
    assert not any(said in note for note in build(14, gedit(scores), paper=True).notes)
    other = gedit(scores, provenance={**GEDIT, "pack": "viescore-ours"}, measure="qwen")
    (note,) = (n for n in build(14, other, paper=True).notes if said in n)
    assert note == f"{said}judge qwen (theirs gpt-4.1); pack viescore-ours (theirs gedit-official)."
    assert not any(said in note for note in build(14, other).notes)
    old = [make_row(system="MGIE", measure="gpt-4o-2024-08-06")]
    (note,) = (n for n in build(1, old, paper=True).notes if said in n)
    assert note == f"{said}pack not recorded (theirs paper-evaluation)."


def test_published_numbers_say_whose_they_are_and_of_when():
    notes = " ".join(build(16, [make_row(suite="imgedit", metric="overall")], paper=True).notes)
    assert "the leaderboard in ImgEdit's repository, as of 2025-07-27 (judge: GPT-4.1)" in notes


def test_a_type_of_few_edits_counts_as_much_and_widens_the_interval():
    rows = gedit([("a", 5 + n % 2, True) for n in range(60)] + [("b", n, True) for n in range(4)])
    overall = [row for row in rows if row.metric == "overall"]
    found = macro_mean(overall, Bootstrap(2000))
    assert (found.mean, found.kinds, found.groups) == (3.5, 2, 64)
    # The error of the mean of four dominates: half of 1.118 / 2, and a little of the others.
    assert found.interval.high - found.interval.low == pytest.approx(4 * 0.28, rel=0.25)
