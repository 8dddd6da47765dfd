"""Speed and memory of asking, against the server of the tests."""

import time
import tracemalloc

import pytest

from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import make_judge
from tests.judges.questions import question
from tests.judges.server import MODEL
from tests.judges.test_asking import Slow

ANSWERS, LIMIT, LATENCY = 2000, 100.0, 0.05  # per second, and seconds


@pytest.mark.slow
def test_2000_answers_keep_to_the_limit(server, tmp_path, capsys):
    server.latency = LATENCY
    judge = make_judge(
        f"openai:{MODEL}", base_url=server.url, requests_per_minute=60 * LIMIT, timeout=120.0
    )
    found = []
    start = time.monotonic()
    with Journal(tmp_path / "j") as journal:
        questions = (question(n) for n in range(ANSWERS))
        run_all(judge, questions, journal, found.append, concurrency=32)
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"\n{ANSWERS} answers, {ANSWERS / seconds:.1f} a second of {LIMIT:.0f} allowed")
    assert {v.status for v in found} == {"ok"}
    assert len(found) == server.requests.total() == ANSWERS
    assert server.most_in_flight <= 32
    # Up to a second's worth may go early.
    assert ANSWERS / seconds <= LIMIT * ANSWERS / (ANSWERS - LIMIT) * 1.01


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_asked(tmp_path, capsys):
    def peak(count):
        tracemalloc.start()
        with Journal(tmp_path / str(count)) as journal:
            questions = (question(n) for n in range(count))
            run_all(Slow(), questions, journal, lambda verdict: True, concurrency=100)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(500), peak(4500)
    each = (many - few) / 4000
    with capsys.disabled():
        print(f"\n{each:.0f} bytes a question stay in memory")
    assert each < 600  # a digest and an offset in two tables; a question has 2 pictures and texts
