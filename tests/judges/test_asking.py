import asyncio
import dataclasses
import json
import os
import signal
import threading

import pytest

from mre_jax.errors import BusyError, ConfigError
from mre_jax.judges.asking import ask_all, run_all, run_async
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import DirectJudge, make_judge
from tests.judges.questions import question
from tests.judges.server import MODEL

ONE = 1000 * 2.5e-6 + 20 * 10e-6


class Slow(DirectJudge):
    """Answers when told, and knows what is under way."""

    name, settings = "slow", {"model": "slow"}

    def __init__(self, fail=()):
        self.fail, self.most, self.now, self.asked = fail, 0, 0, []

    async def ask(self, question):
        self.asked.append(question.item)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        if question.item in self.fail:
            raise ConfigError("no more")
        return self.verdict(question, "ok", score=1)


def run(judge, questions, path, **options):
    found = []
    with Journal(path) as journal:
        run_all(judge, questions, journal, found.append, **options)
    return found


def test_each_question_has_one_verdict_and_no_more_than_asked_for_are_under_way(tmp_path):
    judge = Slow()
    found = run(judge, map(question, range(50)), tmp_path / "j", concurrency=5)
    assert sorted(v.item for v in found) == sorted(f"item-{n}" for n in range(50))
    assert judge.most == 5


def test_questions_are_taken_as_they_are_needed(tmp_path):
    taken = []

    async def check():
        def questions():
            for number in range(1000):
                taken.append(number)
                yield question(number)

        with Journal(tmp_path / "j") as journal:
            verdicts = ask_all(Slow(), questions(), journal, concurrency=4)
            await anext(verdicts)
            assert len(taken) <= 5
            await verdicts.aclose()

    asyncio.run(check())


def test_what_was_answered_is_not_asked_again(tmp_path):
    first = run(Slow(), map(question, range(10)), tmp_path / "j")
    judge = Slow()
    again = run(judge, map(question, range(12)), tmp_path / "j")
    assert judge.asked == ["item-10", "item-11"]
    assert {v.item: v for v in again}.items() >= {v.item: v for v in first}.items()


def test_items_that_ask_the_same_are_paid_for_once(tmp_path):
    twins = [dataclasses.replace(question(1), item=name) for name in "abc"]
    judge = Slow()
    assert [v.item for v in run(judge, twins, tmp_path / "j")] == ["a", "b", "c"]
    assert judge.asked == ["a"]
    size = (tmp_path / "j").stat().st_size
    assert len(run(judge, twins, tmp_path / "j")) == 3
    assert (tmp_path / "j").stat().st_size == size  # nothing is written twice
    assert judge.asked == ["a"]


def test_an_error_ends_the_run_and_what_was_under_way_is_kept(tmp_path):
    judge = Slow(fail=["item-3"])
    with pytest.raises(ConfigError, match="no more"):
        run(judge, map(question, range(50)), tmp_path / "j", concurrency=4)
    with Journal(tmp_path / "j") as journal:
        kept = {v.item for v in journal.verdicts()}
    assert kept == set(judge.asked) - {"item-3"}
    assert len(judge.asked) < 15


def test_invalid_answers_are_asked_again_when_told(ask, server):
    asked = [question(1, "malformed", 3), question(2)]
    assert ask(asked)["item-1"].status == "invalid"
    assert server.requests.total() == 3  # the same words twice are not asked for once more
    again = ask(asked, again=["invalid"])
    assert (again["item-1"].status, server.requests.total()) == ("ok", 5)


def test_sigterm_ends_it_with_what_was_under_way_written(tmp_path):
    judge = Slow()

    def questions():
        for number in range(10_000):
            if number == 20:
                os.kill(os.getpid(), signal.SIGTERM)
            yield question(number)

    with pytest.raises(BusyError, match="run it again to go on"):
        run(judge, questions(), tmp_path / "j")
    with Journal(tmp_path / "j") as journal:
        assert {v.item for v in journal.verdicts()} == set(judge.asked)
    assert len(judge.asked) < 100


def test_a_handler_ends_it(tmp_path):
    judge = Slow()
    with Journal(tmp_path / "j") as journal:
        run_all(judge, map(question, range(100)), journal, lambda v: False, concurrency=2)
    assert len(judge.asked) <= 2


def test_it_runs_outside_the_main_thread(tmp_path):
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(run(Slow(), map(question, range(3)), tmp_path / "j"))
    )
    thread.start()
    thread.join()
    assert len(found) == 3


def test_concurrency_is_checked(tmp_path):
    with pytest.raises(ConfigError, match="concurrency is 0"):
        run(Slow(), [], tmp_path / "j", concurrency=0)


# --- money ---------------------------------------------------------------------------------------


def worst(item):
    return make_judge(f"openai:{MODEL}", offline=True).worst_usd(item)


def test_the_ceiling_holds_and_the_rest_says_so(ask, server):
    questions = [question(n) for n in range(100)]
    ceiling = 10 * ONE + worst(questions[0])
    spent = []
    found = ask(questions, budget=Budget(ceiling), spent=spent, concurrency=8)
    assert spent[0] <= ceiling
    assert spent[0] == pytest.approx(server.requests.total() * ONE)
    statuses = [v.status for v in found.values()]
    assert statuses.count("ok") == server.requests.total() >= 10
    assert statuses.count("budget_stopped") == 100 - server.requests.total()


def test_the_ceiling_holds_over_resumes(ask, server):
    questions = [question(n) for n in range(100)]
    budget = Budget(5 * ONE + worst(questions[0]))
    spent = []
    for _ in range(3):
        ask(questions, budget=budget, spent=spent)
    assert spent[0] == spent[1] == spent[2] <= budget.max_usd
    ask(questions, budget=Budget(100.0), spent=spent)
    assert spent[3] == pytest.approx(100 * ONE)
    assert server.requests.total() == 100


def test_what_a_killed_process_had_sent_counts(ask, server, tmp_path):
    asked = question(1)
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.reserve("a key of a request that was never answered", 1.0)
    found = ask([asked], budget=Budget(1.0 + worst(asked) / 2))
    assert found["item-1"].status == "budget_stopped"
    assert server.requests.total() == 0


def test_what_is_sent_is_written_down_first(ask, server, tmp_path, monkeypatch):
    """A full disk must not lead to requests of which nobody knows."""
    from mre_jax.errors import DataError
    from mre_jax.io.growing_file import GrowingFile

    def full(self, record):
        raise DataError("no space left")

    monkeypatch.setattr(GrowingFile, "append", full)
    with pytest.raises(DataError):
        ask([question(1)])
    assert server.requests.total() == 0


def test_answers_without_usage_count_at_their_most(ask):
    (verdict,) = ask([question(1, "no_usage", 1)]).values()
    assert verdict.usd == pytest.approx(worst(question(1, "no_usage", 1)) / 3)


def test_a_model_without_a_price_costs_nothing_that_is_known(ask, server, tmp_path):
    judge = make_judge("openai:my-qwen", base_url=server.url)
    (verdict,) = ask([question(1)], judge=judge).values()
    assert (verdict.status, verdict.usd) == ("ok", 0.0)
    lines = (tmp_path / "j.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["verdict"]
    assert Budget(0.0).covers(0.0, 0.0)
    with pytest.raises(ConfigError):
        Budget(-1.0)


def test_in_a_notebook_a_loop_runs_already():
    async def answer():
        return 5

    async def cell():
        return run_async(answer())

    assert asyncio.run(cell()) == run_async(answer()) == 5


def test_an_interrupt_in_a_notebook_cancels_what_is_asked():
    ended = threading.Event()

    async def long():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def cell():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run_async(long())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    assert ended.wait(60)
