"""Steps that were not finite are counted over all attempts, and their examples are named."""

import numpy as np
import pytest

from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.identity import Identity
from mre_jax.training.skipped import SkippedSteps
from tests.training.tiny_run import train_config

IDENTITY = Identity(train_config(), ("d",), "w")
BATCH = 4


def names(step, rows):
    return [f"example {10 * step + row}" for row in rows]


def finite(*bad):
    return ~np.isin(np.arange(BATCH), bad)


def attempt(folder, start, *skipped):
    """A process that goes on after step `start` and skips these, each with its bad examples."""
    run = RunDirectory(folder)
    with run.opened(IDENTITY):
        steps = SkippedSteps(run, names, start)
        run.event("first_step", step=start + 1)
        for step, bad in skipped:
            steps.add(step, finite(*bad))
        return steps


def rows(folder):
    events = RunDirectory(folder).events()
    return [row for row in events if row["event"] == "skipped"]


def test_the_example_is_named_and_not_its_whole_batch(tmp_path, capsys):
    steps = attempt(tmp_path, 0, (3, [1, 2]))
    assert rows(tmp_path)[0]["examples"] == ["example 31", "example 32"]
    told = capsys.readouterr().err
    assert told == "warning: step 3 is skipped, not finite: example 31, example 32\n"
    assert "1 of 9 steps" in steps.summary(9) and "example 31, example 32" in steps.summary(9)


def test_a_gradient_names_the_batch_it_is_of(tmp_path, capsys):
    """An overflow on the way back tells of no example."""
    steps = attempt(tmp_path, 0, (2, []))
    assert rows(tmp_path)[0]["batch"] == [f"example {20 + row}" for row in range(BATCH)]
    assert "a gradient of the batch of example 20, " in capsys.readouterr().err
    assert "1 of 9 steps" in steps.summary(9) and "with the examples" not in steps.summary(9)


def test_an_example_that_comes_every_epoch_is_told_of_once(tmp_path, capsys):
    run = RunDirectory(tmp_path)
    with run.opened(IDENTITY):
        steps = SkippedSteps(run, lambda step, rows: ["always the same"], 0)
        for step in (1, 4, 7):
            steps.add(step, finite(0))
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert steps.count == 3


def test_steps_of_earlier_attempts_count_if_they_are_in_the_state(tmp_path):
    """Step 8 was lost with its process, and was finite when it was done again."""
    attempt(tmp_path, 0, (2, [0]), (8, [1]))
    attempt(tmp_path, 6, (9, [2]))
    steps = attempt(tmp_path, 10)
    assert steps.count == 2
    assert "example 20, example 92" in steps.summary(12)
    assert "example 81" not in steps.summary(12)


def test_a_process_that_does_not_write_counts_and_reads_no_example(tmp_path, capsys):
    def unread(step, rows):
        pytest.fail("an example was read")

    attempt(tmp_path, 0, (2, [0]))
    capsys.readouterr()
    run = RunDirectory(tmp_path, writes=False)
    with run.opened(IDENTITY):
        steps = SkippedSteps(run, unread, 5)
        steps.add(6, finite(0))
    assert steps.count == 2
    assert capsys.readouterr().err == ""
