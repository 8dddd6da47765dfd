"""People and a judge on one page: side by side, never in one number."""

import dataclasses
import re

import pytest

from mre_jax.report import write_report
from mre_jax.report.people import pairs_of_judges, people_against_judge
from mre_jax.report.scores import by_suite
from tests.report.rows import make_world


@pytest.fixture
def rows(tmp_path):
    judged = make_world(tmp_path)
    people = [
        dataclasses.replace(
            row, value=row.value - 0.5, passed=None, measure="study", people=True, prompt_hash=""
        )
        for row in judged
        if row.system == "reward" and row.value is not None
    ]
    return judged + people


def test_every_system_has_its_correlation_and_its_means(rows):
    ((people, judge),) = pairs_of_judges(by_suite(rows))
    (table,) = people_against_judge(people, judge)
    texts = [re.sub(r"<[^>]*>", " ", line).split() for line in re.findall(r"<tr>(.*?)</tr>", table)]
    following = texts[1]
    assert following[:2] == ["Following", "1.00"] and following[-1] == "30"
    assert ["reward", "5,5,5", "people", "3.62,", "judge", "4.12"] in [text[:6] for text in texts]
    assert table.count("<svg") == 3 and table.count("reward 5,5,5</title>") == 3


def test_a_page_has_both_and_mixes_nothing(rows, tmp_path):
    write_report(tmp_path / "r.html", rows, root=tmp_path, title="T")
    page = (tmp_path / "r.html").read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings[:3] == [
        "real-edit: Ranking",
        "real-edit, by people: Ranking",
        "real-edit: People against the judge",
    ]
    assert page.count('"id":"0-1"') == 1  # an item stands once, with the scores of both
    assert '{"name":"following (people)","lower":false,"people":true}' in page


def test_annotators_and_the_edits_that_are_seen_most_differently_are_listed(rows, tmp_path):
    several = [
        dataclasses.replace(row, provenance={"annotators": {"a": row.value, "b": row.value - 0.5}})
        if row.people
        else row
        for row in rows
    ]
    write_report(tmp_path / "r.html", several, root=tmp_path, title="T")
    page = (tmp_path / "r.html").read_text()
    assert "Krippendorff&#39;s alpha, ordinal" in page or "Krippendorff's alpha, ordinal" in page
    assert "Furthest apart: following" in page
    assert page.count("people : judge") == 3 * 5
    write_report(tmp_path / "one.html", rows, root=tmp_path, title="T")
    assert "Krippendorff" not in (tmp_path / "one.html").read_text()


def test_people_alone_need_no_mark(rows, tmp_path):
    people = [row for row in rows if row.people]
    write_report(tmp_path / "r.html", people, root=tmp_path, title="T")
    page = (tmp_path / "r.html").read_text()
    assert '{"name":"following","lower":false,"people":false}' in page
    assert "People against the judge" not in page
