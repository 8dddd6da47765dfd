"""`mre evaluate pairwise`: edits of the toy world compared, exactly and by judges that err."""

import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.pairs.spec import JOURNAL, PairwiseSpec
from mre_jax.evaluation.results import PAIRS, append_results, read_results
from mre_jax.evaluation.statistics.pairs import all_pair_scores
from mre_jax.judges.journal import BudgetError
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation import commands
from tests.judges.server import MODEL, JudgeServer

KEY = "sk-canary0123456789abcdef"


def compare(edited, out, toy, *, judge=None, **fields):
    spec = PairwiseSpec(
        results=(edited,), out=out, scenes=toy / "benchmark", judge=judge or JudgeSpec("toy"),
        **fields,
    )  # fmt: skip
    return spec.evaluate()


def by_metric(rows):
    return {one.metric: one for one in all_pair_scores(rows)}


def test_the_exact_judge_orders_systems_and_finds_equal_edits_equal(edited, toy, tmp_path):
    found = by_metric(compare(edited, tmp_path, toy))
    assert list(found) == ["following", "preserving", "quality"]
    kept = found["preserving"]
    assert kept.matrix["kept", "grey"].rate > 0.9
    # Of two equal edits a forced choice takes the first, in either order: a tie.
    twin = kept.matrix["kept", "twin"]
    assert (twin.wins, twin.ties, twin.losses) == (0, 14, 0)
    assert kept.strengths["grey"].rank == 3
    assert kept.coverage == "42/42"
    assert kept.measured.startswith("toy-1 (pack gedit-v2-ours, pictures as-edited")


def test_a_bias_for_the_first_shown_is_measured_and_cannot_decide_a_pair(edited, toy, tmp_path):
    biased = JudgeSpec("toy", options={"first_bias": 10.0})
    rows = compare(edited, tmp_path, toy, judge=biased, pack="genarena-ours", baseline="grey")
    (found,) = all_pair_scores(rows)
    assert (found.order.agreed, found.order.first) == (0, 0.5)
    assert {one.rate for one in found.matrix.values()} == {0.5}
    assert rows[0].provenance["first_bias"] == 10


def test_noise_differs_by_order_so_that_close_pairs_become_ties(edited, toy, tmp_path):
    noisy = JudgeSpec("toy", options={"noise": 5.0})
    rows = compare(edited, tmp_path, toy, judge=noisy, systems=("kept", "grey"))
    found = by_metric(rows)["preserving"].matrix["kept", "grey"]
    assert 1 < found.ties < 14


def test_a_finished_run_asks_nothing_and_other_settings_are_refused(edited, toy, tmp_path):
    rows = compare(edited, tmp_path, toy)
    before = (tmp_path / PAIRS).read_bytes(), (tmp_path / JOURNAL).read_bytes()
    assert compare(edited, tmp_path, toy) == rows
    assert ((tmp_path / PAIRS).read_bytes(), (tmp_path / JOURNAL).read_bytes()) == before
    with pytest.raises(DataError, match="is there with pictures 'as-edited', not 'as-is'"):
        compare(edited, tmp_path, toy, pictures="as-is")


def test_rows_say_who_was_shown_before_whom(edited, toy, tmp_path):
    rows = compare(edited, tmp_path, toy, items=1, systems=("kept", "grey"))
    assert [(row.side, row.against) for row in rows[:2]] == [("kept", "grey"), ("grey", "kept")]
    assert len(rows) == 6 and len({row.item for row in rows}) == 1
    assert (tmp_path / rows[1].edited).resolve().parent.name == "grey"
    assert read_results(tmp_path / PAIRS) == rows
    assert json.loads((tmp_path / PAIRS).read_text().splitlines()[0])["against"] == "grey"
    assert '"against"' not in (edited / "results.jsonl").read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"systems": ("kept",)}, "only kept to compare"),
        ({"systems": ("kept", "nope")}, "--systems nope: not in these results; there are kept"),
        ({"baseline": "nope"}, "--baseline nope: want one of kept, twin, grey"),
        ({"pack": "paper-evaluation"}, "paper-evaluation: scores one edit; take gedit-v2-ours"),
        ({"items": 0}, "--items 0"),
    ],
)
def test_what_cannot_be_compared_is_told(edited, toy, tmp_path, fields, message):
    with pytest.raises(ConfigError, match=message):
        compare(edited, tmp_path, toy, **fields)


def test_a_picture_that_is_gone_is_named(edited, tmp_path):
    rows = [r for r in read_results(edited) if r.system == "kept"]
    append_results(tmp_path / "results.jsonl", rows)
    with pytest.raises(DataError, match="of kept: no picture"):
        PairwiseSpec(results=(tmp_path,), judge=JudgeSpec("toy")).pairs()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with JudgeServer() as server:
        server.answers = '{"better": "First", "reasoning": "sharper"}'
        yield server


def test_a_model_is_asked_in_both_orders_and_paid_for_once(edited, tmp_path, server, capsys):
    options = ("--judge", f"openai:{MODEL}", "--base-url", server.url, "--out", tmp_path)
    given = ("pairwise", edited, *options, "--items", 2, "--pack", "genarena-ours")
    assert commands.evaluate(*given) == 0
    printed = capsys.readouterr()
    assert "real-edit overall: 6/6 pairs, both orders agree on 0.0%" in printed.out
    assert "genarena-ours: after GenArena" in printed.err
    # Twins ask the same in both orders, and beside a third what the other asks: of 12 answers 6.
    asked = sum(server.requests.values())
    assert asked == 6
    assert commands.evaluate(*given) == 0
    assert sum(server.requests.values()) == asked
    body = server.bodies[0]
    pictures = [p for p in body["messages"][-1]["content"] if p["type"] == "image_url"]
    assert len(pictures) == 3
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["better"]["enum"] == ["first", "second"]
    row = read_results(tmp_path / PAIRS)[0]
    assert (row.measure, row.reason, row.provenance["pack"]) == (MODEL, "sharper", "genarena-ours")


def test_the_ceiling_ends_a_run_that_goes_on_with_more_money(edited, tmp_path, server):
    options = ("--judge", f"openai:{MODEL}", "--base-url", server.url, "--out", tmp_path)
    given = ("pairwise", edited, *options, "--items", 1, "--pack", "genarena-ours")
    with pytest.raises(BudgetError, match="are not covered"):
        commands.evaluate(*given, "--max-usd", "0.000001")
    assert not server.requests
    assert commands.evaluate(*given, "--max-usd", "5") == 0


def test_dry_run_counts_both_orders_and_sends_nothing(edited, tmp_path, server, capsys):
    given = ("pairwise", edited, "--judge", f"openai:{MODEL}", "--out", tmp_path, "--dry-run")
    assert commands.evaluate(*given, "--systems", "kept", "--systems", "grey") == 0
    assert "84 requests" in capsys.readouterr().out
    assert not server.requests


def test_an_answer_that_is_no_choice_is_invalid(edited, tmp_path, server):
    server.answers = '{"better": "both", "reasoning": "equal"}'
    spec = PairwiseSpec(
        results=(edited,), out=tmp_path, pack="genarena-ours", items=1,
        judge=JudgeSpec(f"openai:{MODEL}", base_url=server.url),
    )  # fmt: skip
    rows = spec.evaluate()
    assert {row.status for row in rows} == {"invalid"}
    assert "none of first, second" in rows[0].reason
