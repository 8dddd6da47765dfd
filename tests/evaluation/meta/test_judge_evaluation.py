"""`mre evaluate judge`: judges that err by a known amount, and a model on the loopback."""

import csv
import json

import pytest

from mre_jax.errors import ConfigError, DataError
from mre_jax.evaluation.meta.human_set import OVERALL
from mre_jax.evaluation.meta.pair_sets import read_pair_set
from mre_jax.evaluation.meta.record import FILE, read_records
from mre_jax.evaluation.meta.spec import JudgeEvaluation
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.judges.journal import BudgetError
from mre_jax.judges.spec import JudgeSpec
from tests.evaluation import commands
from tests.judges.questions import picture
from tests.judges.server import MODEL, JudgeServer

KEY = "sk-canary0123456789abcdef"


@pytest.fixture(scope="module")
def people(edited, toy, tmp_path_factory):
    """Two people who see that grey pictures are worse than those that were kept."""
    path = tmp_path_factory.mktemp("people") / "scores.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["system", "item", "annotator", "perspective", "score"])
        for case in read_real_edit(toy / "benchmark"):
            for who in "xy":
                rows.writerow(["kept", case.id, who, "preserving", 5])
                rows.writerow(["grey", case.id, who, "preserving", 1])
    return path


def evaluation(people, edited, toy, out, judge=None, **fields):
    return JudgeEvaluation(
        data=people, results=(str(edited),), out=out, scenes=toy / "benchmark", draws=100,
        judge=judge or JudgeSpec("toy"), **fields,
    )  # fmt: skip


def test_an_exact_judge_agrees_with_people_and_one_that_errs_less(people, edited, toy, tmp_path):
    exact = evaluation(people, edited, toy, tmp_path, pack="paper-evaluation")
    (found,) = exact.evaluate().agreements
    assert (found.perspective, found.pairs, found.asked) == ("preserving", 14, 14)
    assert found.decided.value > 0.9
    assert found.correlation.value > 0.8
    erring = JudgeSpec("toy", options={"noise": 5.0})
    spec = evaluation(
        people, edited, toy, tmp_path / "b", erring, pack="paper-evaluation", repeats=2
    )
    (other,) = spec.evaluate().agreements
    assert other.decided.value < found.decided.value
    assert 0 < other.same < 1


def test_judges_that_compare_stand_beside_those_that_score_in_one_table(
    people, edited, toy, tmp_path
):
    for pack in ("paper-evaluation", "gedit-v2-ours"):
        spec = evaluation(people, edited, toy, tmp_path, pack=pack)
        spec.evaluate()
    (table,) = spec.tables()
    assert {row.label for row in table.rows} == {"toy paper-evaluation", "toy gedit-v2-ours"}
    lines = str(table).splitlines()
    assert lines[0] == "Judges: scores.csv, preserving"
    assert lines[2].split()[:2] == ["Judge", "Preferred"]
    again = spec.evaluate()
    assert again == next(one for one in read_records(tmp_path) if "gedit" in one.judge)
    assert abs(again.agreements[0].order.first) < 0.1 and again.usd == 0


def test_a_bias_for_a_place_is_in_the_record(people, edited, toy, tmp_path):
    biased = JudgeSpec("toy", options={"first_bias": 10.0})
    record = evaluation(people, edited, toy, tmp_path, biased).evaluate()
    (found,) = record.agreements
    assert record.judge == "toy gedit-v2-ours first_bias=10.0"
    assert (found.order.first, found.decided.value, found.ties.value) == (0.5, 0.5, 1)


def test_a_pack_that_asks_for_something_else_is_refused_before_anything_is_asked(
    people, edited, toy, tmp_path
):
    spec = evaluation(people, edited, toy, tmp_path, pack="imgedit-ours")
    with pytest.raises(ConfigError, match="imgedit-ours: asks about overall, and people of"):
        spec.evaluate()


FIRST, SECOND, THIRD, SOURCE = (picture((n, 9, 9)) for n in (10, 20, 30, 40))


def parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def image(data):
    return {"bytes": data, "path": None}


def editscore(**fields):
    return {
        "key": ["k1", "k2"],
        "instruction": "make it rain",
        "input_image": image(SOURCE),
        "output_images": [image(FIRST), image(SECOND)],
        "task_type": "subject-add",
        "dimension": "prompt_following",
        **fields,
    }


def tiger(**fields):
    return {
        "id": "7_AvsB",
        "instruction": "make it rain",
        "source_image": image(SOURCE),
        "candidate_1": image(FIRST),
        "candidate_2": image(SECOND),
        "ranking": "A>B",
        "comparison_type": "AvsB",
        **fields,
    }


def test_editscore_s_bench_has_the_preferred_edit_first(tmp_path):
    rows = [editscore(), editscore(dimension="consistency"), editscore(dimension="overall")]
    found = read_pair_set(parquet(tmp_path / "a.parquet", rows), tmp_path / "pictures")
    assert found.name == "EditReward-Bench (EditScore)"
    assert found.perspectives == ["following", "preserving", OVERALL]
    assert {one.points for one in found.preferences} == {1}
    assert len(found.pairs) == 1 and len(found.edits) == 2
    pair = found.pairs[0]
    assert pair.first.edited.read_bytes() == FIRST and pair.first.original.read_bytes() == SOURCE
    assert pair.first.row.kind == "subject-add"


def test_tiger_lab_s_bench_ranks_up_to_four_edits_two_by_two(tmp_path):
    rows = [
        tiger(),
        tiger(ranking="A=B"),
        tiger(candidate_2=image(THIRD), ranking="C>A", comparison_type="AvsC"),
        tiger(candidate_1=image(SECOND), candidate_2=image(THIRD), ranking="B>C",
              comparison_type="BvsC"),
    ]  # fmt: skip
    found = read_pair_set(parquet(tmp_path / "3pair" / "a.parquet", rows), tmp_path / "pictures")
    assert [one.points for one in found.preferences] == [1, 0.5, 0, 1]
    assert len({pair.first.row.item for pair in found.pairs}) == 1
    assert len(found.edits) == 3
    with pytest.raises(DataError, match="ranking 'D>A' is none of A and B"):
        read_pair_set(parquet(tmp_path / "b.parquet", [tiger(ranking="D>A")]), tmp_path)


def test_tiger_lab_s_data_says_who_was_voted_for(tmp_path):
    base = {
        "instruction": "make it rain",
        "source_img": image(SOURCE),
        "left_output_image": image(FIRST),
        "right_output_image": image(SECOND),
    }
    rows = [{**base, "vote_type": vote} for vote in ("leftvote", "rightvote", "tie")]
    found = read_pair_set(parquet(tmp_path / "a.parquet", rows), tmp_path / "pictures")
    assert [one.points for one in found.preferences] == [1, 0, 0.5]


def test_another_table_is_told_what_is_wanted(tmp_path):
    path = parquet(tmp_path / "a.parquet", [{"instruction": "x", "image": image(FIRST)}])
    with pytest.raises(DataError, match="not a set of pairs that is known; it has the columns"):
        read_pair_set(path, tmp_path)


def test_a_model_is_measured_by_the_command_and_paid_for_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    data = parquet(tmp_path / "a.parquet", [editscore(), editscore(dimension="overall")])
    with JudgeServer() as server:
        server.answers = '{"better": "first", "reasoning": "sharper"}'
        options = ("--judge", f"openai:{MODEL}", "--base-url", server.url, "--repeats", 2)
        given = ("judge", data, "--out", tmp_path / "out", *options, "--pictures", "as-is")
        assert commands.evaluate(*given, "--dry-run") == 0
        assert "6 requests" in capsys.readouterr().out
        assert commands.evaluate(*given) == 0
        printed = capsys.readouterr().out
        assert sum(server.requests.values()) == 12  # three perspectives, two orders, two times
        assert commands.evaluate(*given) == 0
        assert sum(server.requests.values()) == 12
    assert "Judges: EditReward-Bench (EditScore), following" in printed
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob(f"*/{FILE}"))
    assert record["usd"] > 0 and record["seconds"] > 0
    assert record["agreements"][0]["order"]["first"] == 0.5
    assert record["agreements"][0]["same"] == 1


def test_a_ceiling_ends_the_run_and_more_money_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    data = parquet(tmp_path / "a.parquet", [editscore()])
    with JudgeServer() as server:
        server.answers = '{"better": "first", "reasoning": "sharper"}'
        options = ("--judge", f"openai:{MODEL}", "--base-url", server.url, "--pictures", "as-is")
        given = ("judge", data, "--out", tmp_path / "out", *options)
        with pytest.raises(BudgetError, match="are not covered"):
            commands.evaluate(*given, "--max-usd", "0.000001")
        assert not server.requests
        assert commands.evaluate(*given, "--max-usd", 1) == 0
        assert sum(server.requests.values()) == 2  # following alone is asked, in both orders
