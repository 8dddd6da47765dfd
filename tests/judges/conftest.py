import asyncio
import functools
import heapq
import ssl

import pytest

from mre_jax.judges.asking import run_all
from mre_jax.judges.journal import Journal
from mre_jax.judges.judge import make_judge
from mre_jax.judges.openai.pace import Pace
from tests.judges.server import MODEL, JudgeServer

# Reading the certificates takes longer than all that a test asks of its server.
ssl.create_default_context = functools.cache(ssl.create_default_context)

KEY = "sk-canary0123456789abcdef"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with JudgeServer() as server:
        yield server


class FakeTime:
    """A clock that jumps from one sleeper's end to the next, when all others wait as well.

    Attributes:
        now: seconds.
        waits: all that were asked for.
    """

    def __init__(self):
        self.now = 0.0
        self.waits = []
        self._sleepers = []

    def clock(self):
        return self.now

    async def sleep(self, seconds):
        self.waits.append(seconds)
        loop = asyncio.get_running_loop()
        end = loop.create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, len(self.waits), end))
        if len(self._sleepers) == 1:
            loop.call_soon(self._tick, loop, 20)
        await end

    def _tick(self, loop, rounds):
        """Wakes the next sleeper after the last one had its rounds of the loop."""
        if rounds:
            loop.call_soon(self._tick, loop, rounds - 1)
            return
        until, _, end = self._sleepers[0]
        self.now = max(self.now, until)
        if not end.done():
            end.set_result(None)
        heapq.heappop(self._sleepers)
        if self._sleepers:
            loop.call_soon(self._tick, loop, 20)


@pytest.fixture
def time():
    return FakeTime()


@pytest.fixture
def ask(server, time, tmp_path):
    """Asks the server, with a clock that does not wait; returns the verdicts by item."""

    def ask(questions, kind="openai", *, judge=None, spent=None, journal="j.jsonl", **options):
        running = {k: options.pop(k) for k in ("concurrency", "budget", "again") if k in options}
        pace = Pace(clock=time.clock, sleep=time.sleep)
        judge = judge or make_judge(
            f"{kind}:{MODEL}", base_url=server.url, **{"pace": pace, **options}
        )
        found = {}
        with Journal(tmp_path / journal) as opened:
            try:
                run_all(judge, questions, opened, lambda v: found.update({v.item: v}), **running)
            finally:
                if spent is not None:
                    spent.append(opened.spent)
        return found

    return ask
