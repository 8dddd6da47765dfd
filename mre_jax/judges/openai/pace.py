"""When the next request may be sent."""

import asyncio
import datetime
import email.utils
import math
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from mre_jax.errors import BusyError, ConfigError

_MINUTE = 60.0
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0

_SAID = re.compile(
    r"(?:(?:again|retry) (?:in|after)|retry_?delay\W+) ?(?=\d)"
    r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s| ?sec))?",
    re.I,
)


class HaltedError(BusyError):
    """What waited to be sent was given up, for the reason that somebody else has."""


class Pace:
    """Keeps to limits per minute, and lets a server that asks for a pause have it.

    Up to a second's worth of requests or tokens may go at once, never more.

    Args:
        requests: per minute; None for no limit.
        tokens: per minute; None for no limit.
        clock: seconds that never go back.
        sleep: waits for so many seconds.

    Raises:
        ConfigError: for a limit that is not positive.
    """

    def __init__(
        self,
        requests: float | None = None,
        tokens: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        for name, limit in (("requests", requests), ("tokens", tokens)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"{name} per minute is {limit}; it must be more than 0")
        self._rates = [limit and limit / _MINUTE for limit in (requests, tokens)]
        self._free = [-math.inf, -math.inf]  # when all that was sent is worked off
        self._paused_until = -math.inf
        self._clock = clock
        self._sleep = sleep
        self._halted = asyncio.Event()

    async def turn(self, tokens: int) -> None:
        """Waits until a request of so many tokens may be sent.

        Raises:
            HaltedError: once `halt` was called.
        """
        now = self._clock()
        start = now
        for index, amount in enumerate((1, tokens)):
            rate = self._rates[index]
            if rate:
                begin = max(self._free[index], now)
                self._free[index] = begin + amount / rate
                # What is left of the second's worth may go early.
                start = max(start, begin - max(1.0 - amount / rate, 0.0))
        while (wait := max(start, self._paused_until) - self._clock()) > 0:
            await self.wait(wait)
        self._check()

    def pause(self, seconds: float) -> None:
        """Nobody sends anything for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    async def wait(self, seconds: float) -> None:
        """Waits, unless `halt` is called.

        Raises:
            HaltedError: once it was.
        """
        self._check()
        tasks = [asyncio.ensure_future(self._sleep(seconds))]
        tasks.append(asyncio.ensure_future(self._halted.wait()))  # type: ignore[arg-type]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        self._check()

    def halt(self) -> None:
        """Ends all waiting, now and later."""
        self._halted.set()

    def _check(self) -> None:
        if self._halted.is_set():
            raise HaltedError("stopped while waiting to send; run it again to go on")


def back_off(failures: int, uniform: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many failures in a row: twice as long each time, and scattered."""
    longest = min(_FIRST_WAIT * 2.0 ** (failures - 1), _LONGEST_WAIT)
    return longest * (0.5 + 0.5 * uniform())


def retry_after(headers: Mapping[str, str], body: str, now: datetime.datetime) -> float | None:
    """Seconds that a server asks to wait, of any length; None if it does not say.

    Args:
        headers: headers of the response.
        body: body of the response, which says so where the headers do not: "try again in 7m12s".
        now: the time, with a zone.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return _said_wait(body)
    if date.tzinfo is None:
        date = date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - now).total_seconds())


def _said_wait(text: str) -> float | None:
    match = _SAID.search(text)
    if match is None or not any(match.groups()):
        return None
    hours, minutes, seconds, unit = match.groups(default="0")
    rest = float(seconds) / (1000 if unit.lower() == "ms" else 1)
    return int(hours) * 3600 + int(minutes) * 60 + rest
