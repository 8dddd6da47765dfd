"""Work on shards in other processes: of this machine, or of any Apache Beam runner."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tqdm import tqdm

from mre_jax.errors import MreError
from mre_jax.io.extra import of_extra
from mre_jax.io.processes import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    workers: int, work: Callable[[Item], Result], items: Sequence[Item]
) -> Iterator[Result]:
    """Yields `work(item)` for every item, in order, from several processes.

    Raises:
        MreError: what a call raised; items that were begun are finished, no others are begun.
    """
    context = multiprocessing.get_context("spawn")  # the parent may hold threads
    pool = ProcessPoolExecutor(
        min(workers, max(len(items), 1)), context, initializer=end_with_parent
    )
    try:
        yield from pool.map(work, items)
    except BrokenProcessPool:
        raise MreError("a worker was killed; run it again, with fewer --workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


def by_processes(workers: int, write: Callable[[int], None], shards: Sequence[int]) -> None:
    """Calls `write` for every shard, in several processes.

    Raises:
        MreError: see `map_processes`.
    """
    done = map_processes(workers, write, shards)
    for _ in tqdm(done, total=len(shards), unit="shard", desc="prepare", disable=None):
        pass


def by_beam(options: Sequence[str], write: Callable[[int], None], shards: Sequence[int]) -> None:
    """Calls `write` for every shard, as a Beam pipeline; its runner is one of the options.

    Raises:
        ConfigError: if Beam is not installed.
    """
    beam: Any = of_extra("apache_beam", "beam")
    settings: Any = of_extra("apache_beam.options.pipeline_options", "beam")
    with beam.Pipeline(options=settings.PipelineOptions(list(options))) as pipeline:
        numbers = pipeline | "shards" >> beam.Create(list(shards))
        # Each to whichever worker is free, not all to the one that made the list.
        _ = numbers | "spread" >> beam.Reshuffle() | "write" >> beam.Map(write)
