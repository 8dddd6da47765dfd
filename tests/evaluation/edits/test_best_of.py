"""Best of n: a judge picks, rows say so, and nothing is made or asked twice."""

import shutil

import pytest

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.evaluation.best_of import BestOf, pick_best
from mre_jax.evaluation.results import read_results, select
from mre_jax.evaluation.suites.real_edit import read_real_edit
from mre_jax.io.json_file import read_rows
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import DirectJudge, make_judge
from mre_jax.judges.packs.pack import load_pack
from tests.evaluation.commands import evaluate

PACK = load_pack("paper-evaluation")
SAMPLING = ("--steps", "2", "--size", "keep", "--batch-size", "1")


class Reading(DirectJudge):
    """Scores an edit by what its file says, as "3" or "status"."""

    name, settings = "reading", {"model": "reading-1"}

    async def ask(self, question):
        said = question.item.rpartition("(")[2].rstrip(")")
        value = self.scores[question.item.split(" ")[0], int(said)]
        if isinstance(value, str):
            return self.verdict(question, value, model="reading-1")
        return self.verdict(question, "ok", score=value, model="reading-1")


@pytest.fixture
def candidates(toy, tmp_path):
    """Two cases, of which three edits are there; they differ, so that none is asked for another."""
    cases = read_real_edit(toy / "benchmark")
    one, two, *others = cases
    made = []
    for number in range(3):
        edited = {}
        for case, other in ((one, others[number]), (two, others[number + 7])):
            path = tmp_path / f"{case.id}-{number}.png"
            shutil.copy(other.original, path)
            path.write_bytes(path.read_bytes() + bytes([number]))  # behind the picture's end
            edited[case.id] = path
        made.append(edited)
    return [one, two], made


def pick(cases, made, scores, tmp_path):
    judge = Reading()
    judge.scores = {(case.id, n): s for case, row in zip(cases, scores, strict=True)
                    for n, s in enumerate(row)}  # fmt: skip
    with Journal(tmp_path / "journal.jsonl") as journal:
        picked = pick_best(
            made, cases, judge=judge, pack=PACK, journal=journal, pictures="as-is", concurrency=1
        )
    return [made.index(next(m for m in made if m[c.id] == picked[c.id])) for c in cases]


def test_the_best_is_picked_for_each_case_and_the_first_of_equal_ones(candidates, tmp_path):
    assert pick(*candidates, [(1, 4, 3), (2, 2, 1)], tmp_path) == [1, 0]


def test_an_edit_without_a_score_is_not_picked_unless_none_has_one(candidates, tmp_path):
    scores = [("refused", 0, "invalid"), ("refused", "refused", "refused")]
    assert pick(*candidates, scores, tmp_path) == [1, 0]


@pytest.mark.parametrize(
    ("status", "error"), [("budget_stopped", ConfigError), ("http_error", BusyError)]
)
def test_what_may_have_an_answer_later_is_waited_for(candidates, tmp_path, status, error):
    with pytest.raises(error, match="scores to pick by"):
        pick(*candidates, [(1, status, 3), (2, 2, 1)], tmp_path)


def test_people_do_not_pick(candidates, tmp_path):
    cases, made = candidates
    scores = tmp_path / "scores.csv"
    scores.write_text("item,perspective,score\nx,quality,3\n")
    judge = make_judge(f"human:{scores}")
    with pytest.raises(ConfigError, match="people cannot pick"):
        pick_best(made, cases, judge=judge, pack=PACK, journal=None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "--best-of 0: want 1 or more"),
        ({"judge": "toy"}, "nothing to pick; give --best-of N"),
        ({"count": 2, "options": {"noise": 1}}, "name one"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        BestOf(**settings)


def test_a_benchmark_of_the_best_of_two(toy, editor, tmp_path, monkeypatch, capsys):
    """Against the same edits without picking; and a second run makes and asks nothing."""
    out = tmp_path / "out"
    options = ("--model", editor, *SAMPLING, "--judge", "toy", "--out", out)
    assert evaluate("real-edit", toy / "benchmark", "--system", "one", *options) == 0
    best = ("--system", "best", *options, "--best-of", 2)
    assert evaluate("real-edit", toy / "benchmark", *best) == 0
    assert "--best-of 2: the judge that picks is asked" in capsys.readouterr().err
    rows = read_results(out / "results.jsonl")
    means = [
        {
            item: sum(row.value for row in select(rows, system=system) if row.item == item)
            for item in {row.item for row in rows}
        }
        for system in ("one", "best")
    ]
    assert all(means[1][item] >= means[0][item] for item in means[0])
    assert any(means[1][item] > means[0][item] for item in means[0])
    picked = select(rows, system="best")
    assert {row.provenance["best_of"] for row in picked} == {2}
    assert {row.provenance["best_of_judge"] for row in picked} == {'toy {"model": "toy-1"}'}
    assert len({row.edited.split("/")[-3] for row in picked}) == 2  # both seeds' folders
    journal = [row for _, row in read_rows(out / "best-of.jsonl")]
    assert sum(row["kind"] == "verdict" for row in journal) == 2 * 14 * 3

    before = (out / "results.jsonl").read_bytes()
    monkeypatch.setattr("mre_jax.judges.others.toy.ToyJudge.ask", None)
    assert evaluate("real-edit", toy / "benchmark", *best) == 0
    assert (out / "results.jsonl").read_bytes() == before
    other = ("--system", "one", *options, "--best-of", 2)
    with pytest.raises(DataError, match="is there with best_of None, not 2"):
        evaluate("real-edit", toy / "benchmark", *other)


def test_a_judge_of_its_own_picks(toy, editor, tmp_path):
    out = tmp_path / "out"
    options = ("--system", "best", "--model", editor, *SAMPLING, "--judge", "toy", "--out", out)
    noisy = ("--best-of", 2, "--best-of-judge", "toy", "--best-of-option", "noise=2")
    assert evaluate("real-edit", toy / "benchmark", *options, *noisy) == 0
    (used,) = {row.provenance["best_of_judge"] for row in read_results(out / "results.jsonl")}
    assert '"noise": 2' in used
    assert {row.measure for row in read_results(out / "results.jsonl")} == {"toy-1"}


def test_pictures_that_are_there_are_not_picked_from(toy, tmp_path):
    options = ("--system", "x", "--images", tmp_path, "--judge", "toy", "--out", tmp_path)
    with pytest.raises(ConfigError, match="--best-of 3 makes edits with --model"):
        evaluate("real-edit", toy / "benchmark", *options, "--best-of", 3)
