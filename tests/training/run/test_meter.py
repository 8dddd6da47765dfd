"""The rows of a run's log: losses of the steps that counted, and a speed without the pauses."""

import math

import numpy as np
import pytest

from mre_jax.training.run import meter as module
from mre_jax.training.run.meter import Meter
from mre_jax.training.step import Metrics


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def told(loss=1.0, skipped=0, time_bin=0, score_bin=3):
    time, score = np.eye(4)[time_bin] * 2, np.eye(6)[score_bin] * 2
    return Metrics(
        *(np.float32(x) for x in (loss, 0.5, 40.0, 1e-4)),
        np.int32(skipped),
        time * loss,
        time,
        score * loss,
        score,
        np.full(2, not skipped),
    )


def steps(meter, clock, *metrics, seconds=2.0):
    for each in metrics:
        clock.now += seconds
        meter.add(each)


def test_speed_counts_all_devices_and_leaves_pauses_out(clock):
    meter = Meter(batch_size=8, step_flops=4e12, peak_flops=8e12)
    steps(meter, clock, told())
    meter.row()
    steps(meter, clock, told(), told())
    clock.now += 60
    meter.pause(60)
    with meter.waiting():
        clock.now += 1
    row = meter.row()
    assert row["step_seconds"] == pytest.approx(2.5)
    assert row["images_per_second"] == pytest.approx(8 / 2.5)
    assert row["tflops_per_device"] == pytest.approx(4 / 2.5)
    assert row["share_of_peak"] == pytest.approx(0.2)
    assert row["data_wait"] == pytest.approx(0.2)


def test_compiling_is_not_counted_as_the_speed_of_steps(clock):
    meter = Meter(8, None, None)
    steps(meter, clock, told(), seconds=600)
    steps(meter, clock, told(), told())
    row = meter.row()
    assert row["step_seconds"] == pytest.approx(2)
    assert "tflops_per_device" not in row


def test_a_row_of_the_first_step_alone_has_no_speed(clock):
    meter = Meter(8, 1e12, 1e12)
    steps(meter, clock, told(), seconds=600)
    row = meter.row()
    assert row["loss"] == 1
    assert "images_per_second" not in row
    assert "share_of_peak" not in row


def test_each_row_begins_anew(clock):
    meter = Meter(8, None, None)
    steps(meter, clock, told(loss=4.0), told(loss=2.0))
    assert meter.row()["loss"] == 3
    steps(meter, clock, told(loss=1.0))
    assert meter.row()["loss"] == 1


def test_steps_that_changed_nothing_are_counted_apart(clock):
    meter = Meter(8, None, None)
    steps(meter, clock, told(), told(loss=math.nan, skipped=1), told(loss=3.0))
    row = meter.row()
    assert (row["loss"], row["skipped"]) == (2, 1)


def test_a_row_of_such_steps_alone_is_still_a_row(clock):
    """It is written just when a user needs it; TensorBoard takes numbers only."""
    meter = Meter(8, None, None)
    steps(meter, clock, told(), told(loss=math.nan, skipped=1))
    meter.row()
    steps(meter, clock, told(loss=math.nan, skipped=2))
    row = meter.row()
    assert math.isnan(row["loss"])
    assert row["skipped"] == 1
    assert all(isinstance(value, int | float) for value in row.values())


def test_losses_by_timestep_and_score_weigh_their_examples(clock):
    meter = Meter(8, None, None)
    steps(meter, clock, told(loss=1.0, time_bin=0, score_bin=5), told(loss=3.0, time_bin=0))
    row = meter.row()
    assert row["loss_time_0"] == 2
    assert (row["loss_score_5"], row["loss_score_3"]) == (1, 3)
    assert "loss_time_1" not in row
