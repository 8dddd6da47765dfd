"""How a demo ends: everything is written, and a claim that fails fails it."""

import pytest

from mre_jax.demo import story
from mre_jax.demo.plan import Chapter, Plan
from mre_jax.demo.spec import DemoSpec
from mre_jax.demo.systems import PRETRAINED
from mre_jax.demo.telling import SHOWN
from mre_jax.errors import ConfigError, MreError
from mre_jax.evaluation.results import append_results
from tests.demo.rows import rows

GOOD = dict(zip((label for label, _, _ in SHOWN), (3.0, 1.0, 4.0, 4.5), strict=True))


@pytest.fixture
def tell(tmp_path, monkeypatch):
    """Tells the end of a standard demo whose editors have got the scores that are given."""
    pytest.importorskip("matplotlib")

    class Nothing(Plan):
        chapters = (Chapter("nothing to do", ()),)

    monkeypatch.setattr(story, "Plan", Nothing)

    def told(scores):
        lines = []

        def first_edits(folder, out):
            file = tmp_path / "demo" / "results" / "results.jsonl"
            file.parent.mkdir(exist_ok=True)
            append_results(file, rows(PRETRAINED, "", 2.0))
            for label, system, condition in SHOWN:
                append_results(file, rows(system, condition, scores[label]))
            return out

        monkeypatch.setattr(story, "write_first_edits", first_edits)
        try:
            return story.run_demo(DemoSpec(out=tmp_path / "demo"), say=lines.append), lines
        except MreError as error:
            return error, lines

    return told


def test_all_claims_hold_and_everything_is_there(tell):
    found, lines = tell(GOOD)
    assert len(found.claims) == 10
    assert all(claim.holds for claim in found.claims)
    assert {"report.html", "contact_sheet.png", "tables.txt"} < {one.name for one in found.files}
    assert all(path.exists() for path in found.files if path.name != "first_edits.png")
    assert list(found.seconds) == ["nothing to do", "what came of it"]
    page = (found.folder / "report.html").read_text()
    assert page.index("What a reward does</h2>") < page.index("Ranking</h2>")
    assert "first_edits.png: the first edits, after" in "\n".join(lines)


def test_a_claim_that_fails_fails_the_demo_which_is_written_all_the_same(tell, tmp_path):
    error, lines = tell(GOOD | {"guided": 3.5})
    assert "4 of 10 claims failed" in str(error)
    assert "FAILS  quality: guidance not below 5,5,5" in "\n".join(lines)
    assert (tmp_path / "demo" / "report.html").exists()


def test_another_editor_needs_another_folder(tell, monkeypatch):
    tell(GOOD)
    monkeypatch.setattr(story, "_digest", lambda editor: "another")
    error, _ = tell(GOOD)
    assert isinstance(error, ConfigError)
    assert "editor" in str(error)
    assert "--restart" in str(error)
