import re

from mre_jax.evaluation.results import PAIRS, append_results
from mre_jax.evaluation.statistics.intervals import Bootstrap
from mre_jax.evaluation.statistics.pairs import pair_scores
from mre_jax.report.pairs import pair_section
from mre_jax.report.spec import ReportSpec
from tests.evaluation.rows import make_row
from tests.evaluation.statistics.test_pairs import answers

ROWS = [row for n in range(4) for row in answers(f"{n}-1", 1.0, float(n == 3), other="<b>")]


def cells(html):
    return [re.sub(r"<[^>]*>", " ", line).split() for line in re.findall(r"<tr>(.*?)</tr>", html)]


def test_the_strongest_stands_first_and_the_matrix_says_who_beats_whom():
    (html,) = pair_section(pair_scores(ROWS, Bootstrap(100)))
    rows = cells(html)
    assert rows[1][:5] == ["1", "[1,", "1]", "a", "1120"]
    assert rows[2][3] == "&lt;b&gt;"
    assert rows[4][:4] == ["a", "\u2013", "87.5", "%"]
    assert "3 won, 1 tied, 0 lost" in html and "<b>" not in html
    assert "Only 4 groups" in html


def test_the_page_has_them_behind_the_ranking(tmp_path):
    append_results(tmp_path / "results.jsonl", [make_row(system=s) for s in "ab"])
    append_results(tmp_path / PAIRS, ROWS)
    ReportSpec((tmp_path,), out=tmp_path / "page.html", draws=100).write()
    page = (tmp_path / "page.html").read_text()
    assert 0 < page.index(">Ranking<") < page.index("real-edit: following, two by two")
