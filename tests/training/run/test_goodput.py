import dataclasses
import datetime

import pytest

from mre_jax.training.run.goodput import Goodput, goodput

NOON = datetime.datetime(2026, 3, 29, 12, tzinfo=datetime.UTC)


def attempt(number, begun, *rows):
    """Events (elapsed, kind, values) of an attempt that began `begun` seconds after noon."""
    return [
        {
            "attempt": number,
            "event": kind,
            "elapsed": float(elapsed),
            "time": (NOON + datetime.timedelta(seconds=begun + elapsed)).isoformat(),
            **(values[0] if values else {}),
        }
        for elapsed, kind, *values in rows
    ]


# Starts in 10 s, then a step a second; saves after 40 and 80 steps, each blocking for a second.
LONG = (
    (0, "job_start"),
    (8, "init_done"),
    (10, "first_step", {"step": 1}),
    (49, "save_begin", {"step": 40}),
    (50, "save_commit", {"step": 40, "blocked": 1.0}),
    (90, "save_begin", {"step": 80}),
    (91, "save_commit", {"step": 80, "blocked": 1.0}),
    (101, "step", {"step": 90}),
)


def parts(events):
    return pytest.approx(goodput(events).seconds)


def test_an_uninterrupted_run():
    events = attempt(1, 0, *LONG, (111, "stop", {"step": 100}))
    assert parts(events) == {
        "starting": 10, "blocked": 2, "productive": 99, "lost": 0, "down": 0
    }  # fmt: skip
    assert goodput(events).share == pytest.approx(99 / 111)
    assert goodput(events).total == 111


def test_a_kill_loses_the_steps_since_the_last_checkpoint():
    first = attempt(1, 0, *LONG)
    # 30 s later another process restores step 80.
    second = attempt(
        2,
        131,
        (0, "job_start"),
        (4, "restore_done", {"step": 80}),
        (5, "first_step", {"step": 81}),
        (24, "stop", {"step": 100}),
    )
    found = goodput(first + second)
    assert found.starting == 15
    assert found.down == 30
    # Step 80 was done 90 s in; the save's second is the first of those in vain.
    assert found.lost == pytest.approx(11)
    assert found.productive == pytest.approx(90 - 10 - 1 + 19)
    assert found.total == pytest.approx(155)
    assert found.to_dict() == {
        "share": round(found.productive / 155, 4),
        "restarts": 1,
        "seconds": {"productive": 98, "starting": 15, "blocked": 1, "lost": 11, "down": 30},
    }
    assert "155 s, 1 restarts: 63.2 % productive, 9.7 % starting" in str(found)


def test_a_damaged_checkpoint_costs_earlier_steps_too():
    first = attempt(1, 0, *LONG)
    near = attempt(2, 101, (5, "first_step", {"step": 81}), (6, "step", {"step": 82}))
    far = attempt(3, 107, (5, "first_step", {"step": 41}), (65, "stop", {"step": 100}))
    found = goodput(first + near + far)
    assert found.lost == pytest.approx(101 - 49 + 1)
    assert found.productive == pytest.approx(49 - 10 + 60)


def test_kills_before_the_first_step_are_all_start_up():
    events = [
        *attempt(1, 0, (0, "job_start"), (7, "init_done")),
        *attempt(2, 10, (0, "job_start")),
        *attempt(3, 20, (0, "job_start"), (9, "init_done")),
    ]
    assert parts(events) == {
        "starting": 16, "blocked": 0, "productive": 0, "lost": 0, "down": 13
    }  # fmt: skip
    assert goodput(events).share == 0


def test_a_wall_clock_that_is_set_back_changes_no_duration():
    first = attempt(1, 0, *LONG)
    second = attempt(2, -3600, (0, "job_start"), (5, "first_step", {"step": 81}), (15, "stop"))
    found = goodput(first + second)
    assert found.down == 0
    assert found.total == 101 + 15


def test_every_second_is_counted_once_wherever_a_kill_cuts():
    whole = attempt(1, 0, *LONG)
    for end in range(1, len(whole) + 1):
        for restored in (0, 40, 80):
            again = attempt(2, 200, (1, "job_start"), (3, "first_step", {"step": restored + 1}))
            found = goodput(whole[:end] + again)
            assert found.total == pytest.approx(203), (end, restored)
            assert min(dataclasses.astuple(found)) >= 0, (end, restored)


def test_nothing_yet():
    assert goodput([]) == Goodput()
    assert "nothing yet" in str(goodput([]))
    assert "100.0 % starting" in str(goodput(attempt(1, 0, (0, "job_start"), (5, "init_done"))))
