import base64
import hashlib
import html.parser
import json
import re

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.report import Section, write_report
from mre_jax.report.charts import Series, bar_chart
from mre_jax.report.gallery import Exhibit, Line, gallery
from mre_jax.report.html import Markup
from tests.report.rows import make_row, make_world

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&=cmd|' /C calc'!A0"


class Elements(html.parser.HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        self.found.append((name, dict(attributes)))


def write(tmp_path, rows, **options):
    out = tmp_path / "report.html"
    written = write_report(out, rows, root=tmp_path, title="T", **options)
    return out.read_text(encoding="utf-8"), written


def test_the_page_needs_nothing_beside_it(tmp_path):
    page, written = write(tmp_path, make_world(tmp_path))
    for name, attributes in Elements(page).found:
        for key in ("src", "href", "action", "srcset", "data"):
            value = attributes.get(key)
            assert value is None or value.startswith(("data:", "#")), (name, attributes)
    assert "@import" not in page
    assert "url(" not in page
    assert (written.items, written.pictures) == (6, 39)
    assert written.bytes == len(page.encode())


def test_the_policy_allows_this_style_and_this_script_only(tmp_path):
    page, _ = write(tmp_path, make_world(tmp_path))
    elements = Elements(page).found
    (policy,) = [a["content"] for n, a in elements if a.get("http-equiv") is not None]
    for name, opening in (("style", "<style>"), ("script", "<script>")):
        (text,) = re.findall(f"{opening}(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not [a for _, a in elements if any(key.startswith("on") or key == "style" for key in a)]


def test_texts_of_the_results_become_no_elements(tmp_path):
    fields = ("system", "condition", "suite", "item", "kind", "metric", "measure", "reason")
    rows = [make_row(**dict.fromkeys(fields, HOSTILE), instruction=HOSTILE, group=HOSTILE)]
    rows.append(make_row(system=f"b{HOSTILE}", instruction=HOSTILE, reason=HOSTILE))
    clean = [make_row(suite="x", metric="m", kind="k", measure="judge-2"), make_row(system="b")]
    plain, _ = write(tmp_path, clean)
    page, _ = write(tmp_path, rows)
    assert [n for n, _ in Elements(page).found] == [n for n, _ in Elements(plain).found]


def test_the_data_of_the_page_is_json_with_the_texts_as_they_were(tmp_path):
    page, _ = write(tmp_path, [make_row(instruction=HOSTILE, reason=HOSTILE)])
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    data = json.loads(text)
    assert data["items"][0]["text"] == HOSTILE
    assert data["items"][0]["edits"][0]["reasons"] == [HOSTILE]


def test_half_a_surrogate_pair_does_not_stop_the_page(tmp_path):
    page, _ = write(tmp_path, [make_row(instruction="a \ud83d b")])
    assert "a \\ud83d b" in page


def test_the_head_says_what_was_compared_and_by_whom(tmp_path):
    page, _ = write(tmp_path, make_world(tmp_path))
    texts = re.sub(r"<[^>]*>", " ", page)
    assert "6 items of 3 pictures" in texts[: texts.index("Ranking")]
    end = texts[texts.rindex("Provenance") :]
    assert "judge-1: following, preserving, quality" in end
    assert "abcdef012345" in end
    assert re.search(r"\d{4}-\d\d-\d\d", end)


def test_the_ranking_comes_first_then_sections_and_provenance_last(tmp_path):
    page, _ = write(tmp_path, make_world(tmp_path), sections=[Section("Table 1", prose="why")])
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert [*headings[:3], headings[-1]] == ["Ranking", "Table 1", "Scores", "Provenance"]
    links = re.findall(r'<a href="#part-\d+">(.*?)</a>', page)
    assert links == headings


def test_a_page_may_open_with_sections_of_its_caller(tmp_path):
    line = Line("Local", HOSTILE, [Exhibit(HOSTILE, tmp_path / "gone.png", {"quality": 4.0})])
    chart = bar_chart(["quality"], [Series(HOSTILE, (0,), (4.25,))], title="t", y_label="score")
    opening = Section(
        "First of all", parts=[gallery([line], chart, "all", note=HOSTILE, facts=HOSTILE)]
    )
    page, _ = write(tmp_path, make_world(tmp_path), opening=[opening])
    assert re.findall(r"<h2>(.*?)</h2>", page)[:2] == ["First of all", "Ranking"]
    first = page[page.index("First of all</h2>") : page.index("<h2>Ranking")]
    assert "no picture" in first
    assert '<li class="h8"' in first
    assert "<script>alert" not in first


def test_an_opening_without_edits_is_refused():
    with pytest.raises(DataError, match="no edits"):
        gallery([], Markup(""), "")


def test_two_suites_are_shown_apart(tmp_path):
    rows = [make_row(), make_row(suite="other", measure="judge-2")]
    page, _ = write(tmp_path, rows)
    assert "<h2>real-edit: Scores</h2>" in page
    assert "<h2>other: Scores</h2>" in page


def test_what_was_done_to_the_pictures_is_said(tmp_path):
    page, written = write(tmp_path, [make_row(edited="gone.png")])
    assert "gone.png: no such file" in written.notes[0]
    assert written.notes[0] in page


def test_values_of_whole_sets_alone_make_a_page_without_a_browser(tmp_path):
    page, written = write(tmp_path, [make_row(item="all", metric="fid_64", passed=None)])
    assert written.items == 0
    assert "<script" not in page


def test_there_must_be_results(tmp_path):
    with pytest.raises(DataError, match="no results"):
        write(tmp_path, [])


def test_a_comparison_of_what_is_not_there_is_refused_before_writing(tmp_path):
    with pytest.raises(ConfigError, match="'x' is not in these results"):
        write(tmp_path, [make_row()], compare=("x", "reward"))
    assert not (tmp_path / "report.html").exists()
