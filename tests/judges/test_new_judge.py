"""A new judge is a class and a line in `JUDGES`: what is defined here is asked like any other."""

import dataclasses

import pytest

from mre_jax.errors import ConfigError
from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import JUDGES, BatchJudge, DirectJudge
from mre_jax.judges.spec import JudgeSpec
from tests.judges.questions import question


class Mild(DirectJudge):
    """Gives everything one score."""

    name = "mild"

    def __init__(self, *, score=4):
        self.score = score

    @property
    def settings(self):
        return {"model": "mild-1", "score": self.score}

    async def ask(self, question):
        return self.verdict(question, "ok", score=self.score, text="nice", model="mild-1")


class Pile(BatchJudge):
    """Waits until all questions are there."""

    name, settings = "pile:one", {"model": "one"}

    def __init__(self, model):
        assert model == "one"

    async def ask_many(self, questions, journal, budget):
        for number, asked in enumerate(list(questions)):
            verdict = self.verdict(asked, "ok", score=number, requests=1)
            journal.append(verdict)
            yield verdict


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(JUDGES, "mild", (__name__, "Mild"))
    monkeypatch.setitem(JUDGES, "pile", (__name__, "Pile"))


def scores(spec, path, count=3):
    found = {}
    with Journal(path) as journal:
        run_all(
            spec.make(),
            map(question, range(count)),
            journal,
            lambda v: found.update({v.item: v.score}),
            concurrency=spec.concurrency,
            budget=spec.budget(),
        )
    return [found[item] for item in sorted(found)]


def test_one_that_answers_each_question(tmp_path):
    spec = JudgeSpec("mild", options={"score": "2"}, concurrency=2, max_usd=1)
    assert scores(spec, tmp_path / "j") == [2, 2, 2]
    other = dataclasses.replace(spec, options={"score": 3})
    assert scores(other, tmp_path / "j") == [3, 3, 3]  # other settings are another question
    assert spec.budget() == Budget(1)


def test_one_that_answers_many_together(tmp_path):
    assert scores(JudgeSpec("pile:one"), tmp_path / "j") == [0, 1, 2]
    assert scores(JudgeSpec("pile:one"), tmp_path / "j", 4) == [0, 1, 2, 0]  # three are known


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (JudgeSpec("mild", options={"size": 1}), "judge mild: no option 'size'; it has score"),
        (JudgeSpec("mild", rpm=5), "judge mild: takes no --base-url"),
        (JudgeSpec("mild:x"), "judge 'mild:x': want mild"),
        (JudgeSpec("pile"), "judge 'pile': want pile:NAME"),
    ],
)
def test_its_options_are_checked(spec, message):
    with pytest.raises(ConfigError, match=message):
        spec.make()
