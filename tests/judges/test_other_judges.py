"""Judges that ask no server: the toy world's, a journal's, people's."""

import asyncio
import dataclasses
import json

import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import make_judge
from mre_jax.judges.spec import JudgeSpec
from mre_jax.toyworld.misjudgement import Misjudgement
from mre_jax.toyworld.triplets import draw_triplets, encode
from tests.judges.questions import picture, question

PERSPECTIVES = ("following", "preserving", "quality")


def ask(judge, asked):
    return asyncio.run(judge.ask(asked))


@pytest.fixture(scope="module")
def drawn():
    return draw_triplets(3, range(4), 32)


def toy_question(drawn, row, images, **more):
    extra = {"scene": drawn.scenes.to_json()[row], "edit": drawn.edits.to_json()[row]}
    asked = question(row, extra=extra, **more)
    return dataclasses.replace(
        asked, original=encode(drawn.source[row], "png"), edited=encode(images[row], "png")
    )


def test_the_toy_judge_gives_the_ideal_full_marks_and_none_to_what_was_left_alone(drawn):
    judge = make_judge("toy")
    for row in range(4):
        for perspective in PERSPECTIVES:
            ideal = ask(judge, toy_question(drawn, row, drawn.target, perspective=perspective))
            assert (ideal.score, ideal.text, ideal.model) == (5, "None", "toy-1")
        kept = ask(judge, toy_question(drawn, row, drawn.source, pack="paper-evaluation"))
        assert kept.score == pytest.approx(0, abs=0.05)
        assert kept.passed is False
        said = ask(judge, toy_question(drawn, row, drawn.source))
        assert (said.score, said.text) == (0, "The edit is completely off.")


def test_the_toy_judge_scores_as_the_toy_world_does(drawn):
    from mre_jax.toyworld.judge import score
    from mre_jax.toyworld.triplets import decode

    files = [encode(image, "png") for image in drawn.edited]
    exact = score(drawn.scenes, drawn.edits, np.stack([decode(file) for file in files]))
    judge = make_judge("toy")
    for row in range(4):
        for index, perspective in enumerate(PERSPECTIVES):
            asked = toy_question(
                drawn, row, drawn.edited, perspective=perspective, pack="paper-evaluation"
            )
            verdict = ask(judge, asked)
            assert verdict.score == pytest.approx(exact[row, index], abs=1e-4)
            assert verdict.passed == (exact[row, index] >= 4)


def test_a_toy_judge_errs_as_stated_and_by_the_question(drawn):
    """Whatever the item is called and whatever was asked before."""
    spec = JudgeSpec("toy", options={"noise": "0.8", "bias": "0.5", "noise_seed": 3})
    exact, judge, again = make_judge("toy"), spec.make(), spec.make()
    assert exact.settings == {"model": "toy-1"}
    assert judge.settings == {"model": "toy-1", "noise": 0.8, "bias": 0.5, "noise_seed": 3}
    questions = [
        toy_question(drawn, row, drawn.edited, pack="paper-evaluation", perspective=perspective)
        for row in range(4)
        for perspective in PERSPECTIVES
    ]
    scores = [[ask(j, q).score for q in questions] for j in (exact, judge)]
    assert scores[0] != scores[1]
    renamed = [dataclasses.replace(q, item=f"{q.item}-b") for q in reversed(questions)]
    assert [ask(again, q).score for q in renamed][::-1] == scores[1]
    repeated = [ask(judge, dataclasses.replace(q, repeat=1)).score for q in questions]
    assert repeated != scores[1]
    errors = Misjudgement(0.8, 0.5, 3)
    want = [errors(s, q.key) for s, q in zip(scores[0], questions, strict=True)]
    np.testing.assert_allclose(scores[1], want)


def test_the_toy_judge_says_what_it_cannot_judge(drawn):
    judge = make_judge("toy")
    with pytest.raises(DataError, match="needs scenes"):
        ask(judge, question())
    with pytest.raises(DataError, match="not sc of pack viescore-ours"):
        ask(judge, toy_question(drawn, 0, drawn.target, pack="viescore-ours", perspective="sc"))
    oblong = toy_question(drawn, 0, drawn.target)
    with pytest.raises(DataError, match="square"):
        ask(judge, dataclasses.replace(oblong, edited=picture(size=(8, 9))))


def test_a_replay_says_the_same_without_asking(drawn, tmp_path):
    questions = [toy_question(drawn, row, drawn.edited) for row in range(4)]
    first, second = [], []
    with Journal(tmp_path / "j") as journal:
        run_all(make_judge("toy"), questions, journal, first.append)
    replay = make_judge(f"replay:{tmp_path / 'j'}")
    with Journal(tmp_path / "k") as journal:
        run_all(replay, [*questions, question(9)], journal, second.append)
    said = {v.item: (v.score, v.text, v.model, v.status) for v in second}
    assert said.pop("item-9")[-1] == "missing"
    assert said == {v.item: (v.score, v.text, "toy-1", "ok") for v in first}
    with Journal(tmp_path / "k") as journal:
        assert len(list(journal.verdicts())) == 4  # what is missing may come yet


def test_a_replay_of_two_judges_is_refused(drawn, tmp_path):
    with Journal(tmp_path / "j") as journal:
        for model in ("a", "b"):
            verdict = ask(make_judge("toy"), toy_question(drawn, 0, drawn.target))
            journal.append(dataclasses.replace(verdict, key=model, model=model))
    with pytest.raises(DataError, match="'a' and 'b' both judge 'item-0', following"):
        make_judge(f"replay:{tmp_path / 'j'}")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_scores_of_people(tmp_path, suffix):
    path = tmp_path / f"scores.{suffix}"
    if suffix == "csv":
        path.write_text(
            "item,perspective,score,passed,text\n"
            'item-1,following,4,yes,"good, mostly"\nitem-2,following,2.5,No,\n'
        )
    else:
        rows = [
            {"item": "item-1", "perspective": "following", "score": 4, "passed": True,
             "text": "good, mostly"},
            {"item": "item-2", "perspective": "following", "score": 2.5, "passed": "no"},
        ]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    judge = make_judge(f"human:{path}")
    pack = "paper-evaluation"
    one, two, three = (ask(judge, question(n, pack=pack)) for n in (1, 2, 3))
    assert (one.score, one.passed, one.text, one.model) == (4, True, "good, mostly", "human")
    assert (two.score, two.passed, two.text) == (2.5, False, "")
    assert three.status == "missing"
    assert three.text == f"not in {path}, where an item is called 'item-1'"
    other = ask(judge, question(1, pack=pack, perspective="quality"))
    assert other.text == f"not in {path}, which has scores of following"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("item,score\na,4\n", r"scores\.csv:2: no column 'perspective'"),
        ("item,perspective,score\na,following,four\n", "score 'four' is not a number"),
        ("item,perspective,score\na,following,nan\n", "is not a number"),
        ("item,perspective,score,mood\na,following,4,x\n", "unknown column 'mood'"),
        ("item,perspective,score,passed\na,following,4,maybe\n", "passed is 'maybe'"),
        ("item,perspective,score\na,following,4\na,following,4\n", "twice"),
        ("item,perspective,score\n", "no scores"),
    ],
)
def test_bad_scores_of_people_are_named(tmp_path, content, message):
    path = tmp_path / "scores.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        make_judge(f"human:{path}")


def test_scores_of_people_must_fit_the_question(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("item,perspective,score\nitem-1,following,7\nitem-2,following,4\n")
    judge = make_judge(f"human:{path}")
    with pytest.raises(DataError, match="score 7 is not in 0 to 5"):
        ask(judge, question(1))
    asked_for_yes_or_no = ask(judge, question(2, pack="paper-evaluation"))
    assert (asked_for_yes_or_no.score, asked_for_yes_or_no.passed) == (4, None)
    with pytest.raises(DataError, match="no such file"):
        make_judge("human:/nowhere/x.csv")


STUDY = """\
system,item,annotator,perspective,score,passed,text
SmartEdit,item-1,ann,following,4,yes,nice
SmartEdit,item-1,bob,following,1,no,
SmartEdit,item-1,cyd,following,3,yes,meh
Reward@5,item-1,ann,following,5,yes,
"""


def test_each_system_has_the_mean_of_its_own_annotators(tmp_path):
    (tmp_path / "s.csv").write_text(STUDY)
    judge = make_judge(f"human:{tmp_path / 's.csv'}")
    asked = question(1, pack="paper-evaluation")
    with pytest.raises(DataError, match="scores of SmartEdit, Reward@5; say whose"):
        ask(judge, asked)
    assert judge.judging("SmartEdit", "").endswith("people's scores of SmartEdit")
    one = ask(judge, asked)
    judge.judging("Reward", "5")
    two = ask(judge, asked)
    assert (one.score, one.passed, one.text) == (pytest.approx(8 / 3), True, "ann: nice; cyd: meh")
    assert (two.score, two.people, one.people) == (5, True, True)
    assert one.settings["annotators"] == {"ann": 4, "bob": 1, "cyd": 3}
    assert one.key != two.key  # or a journal would give one system the other's score
    with pytest.raises(DataError, match="no scores of 'Reward'; it has SmartEdit, Reward@5"):
        judge.judging("Reward", "")


def test_a_table_without_systems_scores_one_of_them(tmp_path):
    (tmp_path / "s.csv").write_text("item,perspective,score\nitem-1,following,4\n")
    judge = make_judge(f"human:{tmp_path / 's.csv'}")
    assert judge.judging("A", "").endswith("people's scores of A (it has no column 'system')")
    assert ask(judge, question(1)).score == 4
    with pytest.raises(DataError, match="no column 'system', and it cannot be A and A@5"):
        judge.judging("A", "5")


def test_people_stay_people_when_their_journal_is_replayed(tmp_path):
    (tmp_path / "s.csv").write_text("item,perspective,score\nitem-1,following,4\n")
    with Journal(tmp_path / "j") as journal:
        run_all(make_judge(f"human:{tmp_path / 's.csv'}"), [question(1)], journal, lambda _: None)
    assert ask(make_judge(f"replay:{tmp_path / 'j'}"), question(1)).people is True
