import asyncio
import datetime

import pytest

from mre_jax.errors import BusyError, ConfigError
from mre_jax.judges.openai.pace import Pace, back_off, retry_after

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


def starts(time, requests=None, tokens=None, each=100, count=50):
    """When each of many requests at once may go."""
    times = []

    async def one(pace):
        await pace.turn(each)
        times.append(time.now)

    async def run():
        pace = Pace(requests, tokens, clock=time.clock, sleep=time.sleep)
        await asyncio.gather(*(one(pace) for _ in range(count)))

    asyncio.run(run())
    return sorted(times)


def test_requests_keep_to_their_limit(time):
    times = starts(time, requests=600)  # ten a second
    assert max(sum(t <= s < t + 1 for s in times) for t in times) <= 21
    assert times[-1] == pytest.approx(4.0, abs=0.2)  # a second's worth went at once


def test_tokens_keep_to_theirs(time):
    times = starts(time, tokens=60_000, each=500)  # two requests a second
    assert times[-1] == pytest.approx(24.0, abs=0.6)


def test_the_stricter_limit_counts_and_no_limit_waits_for_nothing(time):
    assert starts(time, requests=6000, tokens=6000, each=100)[-1] == pytest.approx(49, abs=1)
    time.now = 0.0
    assert starts(time)[-1] == 0


def test_halt_ends_waiting_now_and_later(time):
    async def run():
        pace = Pace()
        pace.pause(3600)
        waiting = asyncio.create_task(pace.turn(1))
        await asyncio.sleep(0.01)
        pace.halt()
        for stopped in (waiting, pace.turn(1), pace.wait(1)):
            with pytest.raises(BusyError):
                await stopped

    asyncio.run(run())


def test_limits_are_checked():
    for limit in (0, -1, float("nan")):
        with pytest.raises(ConfigError):
            Pace(limit)


def test_waits_grow_and_are_scattered():
    assert [back_off(n, lambda: 1.0) for n in (1, 2, 3, 7, 20)] == [1, 2, 4, 60, 60]
    assert back_off(3, lambda: 0.0) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "86400"}, 86400),  # the client of the openai package ignores these
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Tue, 01 Jan 2030 12:00:30 GMT"}, 30),
        ({"retry-after": "Tue, 01 Jan 2030 11:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_what_the_server_asks_for(headers, seconds):
    assert retry_after(headers, "", NOW) == seconds


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ("Limit 200, Used 200. Please try again in 7m12s.", 432),
        ("Please try again in 1h2m3.5s.", 3723.5),
        ("Please try again in 250ms.", 0.25),
        ("Please retry after 26 seconds.", 26),
        ('{"@type": "RetryInfo", "retryDelay": "45s"}', 45),
        ("please try again later", None),
        ("try again in 5 whole days", None),
    ],
)
def test_what_a_server_asks_for_in_words(body, seconds):
    """Such a server sends no header; asked sooner, it counts the request against the limit."""
    assert retry_after({}, body, NOW) == seconds
    assert retry_after({"retry-after": "7"}, body, NOW) == 7
