"""When a supervisor gives up, by a clock of the test's own."""

import dataclasses
import doctest

import pytest

from tests.tpu_scripts.pods import SETTINGS
from tpu_scripts import exit_codes, slices
from tpu_scripts.exit_codes import Outcome
from tpu_scripts.settings import from_values
from tpu_scripts.supervise import Ended, Limits

SETTINGS_ = from_values({**SETTINGS, "HOURS": "2", "MAX_ATTEMPTS": "4"})


class World:
    """A clock, and what is saved."""

    def __init__(self, **settings):
        self.seconds, self.saved = 0.0, None
        given = dataclasses.replace(SETTINGS_, **settings)
        self.limits = Limits(given, lambda: self.saved, lambda: self.seconds)

    def attempt(self, kind, saved):
        self.limits.begin()
        self.saved = saved
        self.limits.end(kind, 1)


def test_the_hours_are_over():
    world = World()
    world.seconds = 7200
    world.limits.check_time()
    world.seconds = 7201
    with pytest.raises(Ended, match="HOURS=2") as ended:
        world.limits.check_time()
    assert ended.value.exit_code == 75


def test_attempts_are_counted_whatever_they_save():
    world = World()
    for saved in range(4):
        world.attempt(Outcome.PREEMPTED, saved)
    with pytest.raises(Ended, match="MAX_ATTEMPTS=4"):
        world.limits.begin()


def test_two_attempts_without_progress_are_the_end_whatever_their_reason():
    world = World()
    world.attempt(Outcome.PREEMPTED, 10)
    world.attempt(Outcome.INFRASTRUCTURE, 10)
    with pytest.raises(Ended, match="nothing after step 10") as ended:
        world.attempt(Outcome.PREEMPTED, 10)
    assert ended.value.exit_code == 70


def test_progress_between_them_is_a_new_beginning():
    world = World()
    for saved in (10, 10, 20, 20):
        world.attempt(Outcome.CRASHED, saved)


def test_a_bucket_that_does_not_answer_is_neither_progress_nor_its_absence():
    world = World()
    world.attempt(Outcome.PREEMPTED, 10)
    world.attempt(Outcome.PREEMPTED, None)
    world.attempt(Outcome.PREEMPTED, 10)
    with pytest.raises(Ended, match="nothing after step 10"):
        world.attempt(Outcome.PREEMPTED, 10)


def test_crashes_are_few_even_where_nothing_is_saved_by_steps():
    """Parts of sharded work save no checkpoints."""
    world = World(command=("mre", "sample", "{run}", "{worker}"), max_stalled=1)
    for _ in range(2):
        world.attempt(Outcome.CRASHED, None)
    with pytest.raises(Ended, match="MAX_CRASHES=3"):
        world.attempt(Outcome.CRASHED, None)


@pytest.mark.parametrize("module", (exit_codes, slices))
def test_examples_of_docstrings(module):
    tried = doctest.testmod(module)
    assert tried.attempted and not tried.failed
