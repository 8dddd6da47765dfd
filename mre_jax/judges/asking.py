"""Asking many questions at once, each of them paid for once."""

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from mre_jax.errors import BusyError, ConfigError
from mre_jax.judges.journal import Budget, Journal
from mre_jax.judges.judge import BatchJudge, DirectJudge, Judge
from mre_jax.judges.openai.pace import HaltedError
from mre_jax.judges.outcome import Outcome
from mre_jax.judges.question import Question
from mre_jax.judges.verdict import FINAL, Verdict

T = TypeVar("T")

MAX_FAILURES = 20
"""So many items in a row without an answer end a run: nothing is there that answers."""


async def ask_all(
    judge: Judge,
    questions: Iterable[Question],
    journal: Journal,
    *,
    concurrency: int = 8,
    budget: Budget | None = None,
    again: Collection[str] = (),
    stop: asyncio.Event | None = None,
) -> AsyncIterator[Verdict]:
    """Yields one verdict per question, those that the journal holds at once, others as they come.

    Questions are taken as they are needed, so that memory does not grow with their number. A
    verdict is in the journal before it is yielded, but for "budget_stopped" and "missing", which
    are none. Where two items ask the same, the second one gets the answer of the first.

    Args:
        judge: a judge, as `JudgeSpec.make` gives it.
        questions: any number, read once.
        journal: open; what it holds is not asked again.
        concurrency: questions under way at any moment.
        budget: the ceiling; without one there is none. A question it does not cover, and every
            later one that would have to be asked, is "budget_stopped".
        again: statuses that are asked again though they are final, as "invalid".
        stop: ends the run when it is set: what is under way is finished, nothing new begun.

    Raises:
        ConfigError: for a concurrency below 1.
        BusyError: if `MAX_FAILURES` items in a row had no answer, or `stop` was set.
        MreError: if the first answers had no score, see `Outcome.check_first`.
        MreError: what the judge raises when no further question can be answered. What was under
            way is in the journal then.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency is {concurrency}; it must be at least 1")
    budget = Budget() if budget is None else budget
    asking = _Asking(journal, budget, frozenset(again), concurrency)
    watch = asyncio.create_task(_halt(judge, stop)) if stop is not None else None
    try:
        if isinstance(judge, BatchJudge):
            verdicts = asking.run_many(judge, questions)
        elif isinstance(judge, DirectJudge):
            verdicts = asking.run(judge, questions, stop)
        else:
            raise TypeError(f"{judge.name} is neither a DirectJudge nor a BatchJudge")
        async for verdict in verdicts:
            yield verdict
    finally:
        if watch is not None:
            watch.cancel()
        await asking.cancel()


def run_all(
    judge: Judge,
    questions: Iterable[Question],
    journal: Journal,
    handle: Callable[[Verdict], object],
    *,
    concurrency: int = 8,
    budget: Budget | None = None,
    again: Collection[str] = (),
) -> None:
    """`ask_all` for a command: hands every verdict to `handle`, ends cleanly on SIGTERM.

    A `handle` that returns False ends the run.

    Raises:
        as `ask_all`; BusyError after SIGTERM.
    """

    async def run() -> None:
        stop = asyncio.Event()
        with _stop_on_sigterm(stop):
            try:
                verdicts = ask_all(
                    judge,
                    questions,
                    journal,
                    concurrency=concurrency,
                    budget=budget,
                    again=again,
                    stop=stop,
                )
                async with contextlib.aclosing(verdicts):  # type: ignore[type-var]
                    async for verdict in verdicts:
                        if handle(verdict) is False:
                            return
            finally:
                await judge.close()

    run_async(run())


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, also where a loop runs already, as in a notebook: then in a thread of its own.

    An interrupt cancels it, as `asyncio.run` does.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main)
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def beginning() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine that runs is one's)
        begun.set_result((asyncio.get_running_loop(), task))
        return await main

    with ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(asyncio.run, beginning()).result()
        except KeyboardInterrupt:
            loop, task = begun.result()
            with contextlib.suppress(RuntimeError):  # it has ended, and its loop is closed
                loop.call_soon_threadsafe(task.cancel)
            raise


async def _halt(judge: Judge, stop: asyncio.Event) -> None:
    await stop.wait()
    judge.halt()


class _Asking:
    """The state of one `ask_all`."""

    def __init__(
        self,
        journal: Journal,
        budget: Budget,
        again: frozenset[str],
        concurrency: int,
    ):
        self._journal = journal
        self._budget = budget
        self._again = again
        self._concurrency = concurrency
        self._under_way: dict[asyncio.Task[Verdict], str] = {}
        self._failures = 0
        self._outcome = Outcome()

    async def run(
        self, judge: DirectJudge, questions: Iterable[Question], stop: asyncio.Event | None
    ) -> AsyncIterator[Verdict]:
        stopped = False
        for question in questions:
            if stop is not None and stop.is_set():
                break
            key = judge.key(question)
            while key in self._under_way.values():
                for verdict in await self._answers():
                    yield verdict
            known = self._recall(key, question)
            if known is not None:
                yield known
                continue
            worst = judge.worst_usd(question)
            while not stopped and not self._budget.covers(self._journal.spent, worst):
                if not self._under_way:
                    stopped = True
                for verdict in await self._answers():
                    yield verdict
            if stopped:
                text = f"{self._journal.spent:.2f} of {self._budget.max_usd:.2f} USD spent"
                yield judge.verdict(question, "budget_stopped", text=text)
                continue
            if worst > 0:
                self._journal.reserve(key, worst)
            self._under_way[asyncio.create_task(judge.ask(question))] = key
            while len(self._under_way) >= self._concurrency:
                for verdict in await self._answers():
                    yield verdict
        while self._under_way:
            for verdict in await self._answers():
                yield verdict
        if stop is not None and stop.is_set():
            raise BusyError("stopped by a signal; run it again to go on")

    async def cancel(self) -> None:
        """Drops what is under way; it counts as spent."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        self._under_way.clear()

    async def run_many(
        self, judge: BatchJudge, questions: Iterable[Question]
    ) -> AsyncIterator[Verdict]:
        """Leaves to the judge what the journal does not answer."""
        known: list[Verdict] = []

        def unanswered() -> Iterator[Question]:
            for question in questions:
                answer = self._recall(judge.key(question), question)
                if answer is None:
                    yield question
                else:
                    known.append(answer)

        async for verdict in judge.ask_many(unanswered(), self._journal, self._budget):
            while known:
                yield known.pop()
            self._outcome.add(verdict, known=not verdict.requests)
            yield verdict
            self._outcome.check_first()
        while known:
            yield known.pop()

    def _recall(self, key: str, question: Question) -> Verdict | None:
        """The journal's answer, if it holds one that is not to be asked for again."""
        own = self._journal.find(key, question.item)
        if own is not None and own.status in FINAL and own.status not in self._again:
            self._outcome.add(own, known=True)
            return own
        other = self._journal.find_answer(key)
        if other is None or other.status in self._again:
            return None
        copy = dataclasses.replace(other, item=question.item, usage={}, usd=0.0, requests=0)
        self._journal.append(copy)
        self._outcome.add(copy, known=True)
        return copy

    async def _answers(self) -> list[Verdict]:
        """Waits for the next verdicts and writes them down; none if nothing is under way."""
        if not self._under_way:
            return []
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        try:
            return self._write_down(done)
        except BaseException:
            if self._under_way:  # they are paid for; the judge was halted
                self._write_down((await asyncio.wait(self._under_way))[0], strict=False)
            raise

    def _write_down(self, done: set[asyncio.Task[Verdict]], strict: bool = True) -> list[Verdict]:
        verdicts = []
        error: BaseException | None = None
        for task in done:
            self._under_way.pop(task)
            if task.exception() is not None:
                # One says why; the others only that they were halted.
                if error is None or isinstance(error, HaltedError):
                    error = task.exception()
                continue
            verdict = task.result()
            if verdict.status in FINAL or verdict.requests:
                self._journal.append(verdict)
            verdicts.append(verdict)
            self._outcome.add(verdict, known=not verdict.requests)
            self._failures = self._failures + 1 if verdict.status == "http_error" else 0
        if strict and error is not None:
            raise error
        if strict:
            self._outcome.check_first()
        if strict and self._failures >= MAX_FAILURES:
            raise BusyError(
                f"{self._failures} items in a row had no answer (the last: {verdicts[-1].text}); "
                "run it again when that is over"
            )
        return verdicts


@contextlib.contextmanager
def _stop_on_sigterm(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    except (NotImplementedError, RuntimeError, ValueError):  # not in this thread or system
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
