import math

import jax.numpy as jnp
import numpy as np
import pytest

from mre_jax.errors import DataError
from mre_jax.io.growing_file import rows_so_far
from mre_jax.training.run.metrics_log import MetricsLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def steps(path):
    return [row["step"] for row in rows_so_far(path)]


def test_a_row_holds_what_was_logged(path):
    log = MetricsLog(path, tensorboard=None)
    log.write(10, {"loss": jnp.float32(0.5), "rate": 5e-5, "skipped": np.int32(0)})
    log.write(15, {"loss": None})
    log.write(20, {"loss": math.nan, "rate": 5e-5, "skipped": 1})
    log.close()
    assert rows_so_far(path) == [
        {"step": 10, "loss": 0.5, "rate": 5e-5, "skipped": 0},
        {"step": 15, "loss": None},
        {"step": 20, "loss": None, "rate": 5e-5, "skipped": 1},
    ]


def test_a_step_that_is_done_again_stands_there_once(path):
    first = MetricsLog(path, tensorboard=None)
    for step in (10, 20, 30):
        first.write(step, {"loss": 1.0})
    # Killed here: no close, and half a row.
    with path.open("a") as file:
        file.write('{"step": 40, "lo')
    second = MetricsLog(path, tensorboard=None, start=15)
    assert steps(path) == [10]
    second.write(20, {"loss": 2.0})
    second.close()
    assert [row["loss"] for row in rows_so_far(path)] == [1.0, 2.0]


def test_a_run_begun_again_from_its_start_has_no_old_rows(path):
    MetricsLog(path, tensorboard=None).write(10, {"loss": 1.0})
    MetricsLog(path, tensorboard=None, start=0).close()
    assert steps(path) == []


def test_tensorboard_gets_the_same_and_pictures(path, tmp_path):
    tf = pytest.importorskip("tensorflow")
    log = MetricsLog(path, tensorboard=tmp_path / "board", start=4)
    log.write(5, {"loss": jnp.float32(0.5), "grad_norm": None})
    log.image(5, "edits", np.zeros((4, 4, 3), np.uint8))
    log.close()
    (file,) = (tmp_path / "board").iterdir()
    events = list(tf.compat.v1.train.summary_iterator(str(file)))
    tags = [value.tag for event in events for value in event.summary.value]
    assert tags == ["loss", "edits"]
    assert events[1].step == 5  # TensorBoard drops what an earlier process logged from here on


def test_pictures_without_tensorboard_are_no_error(path):
    log = MetricsLog(path, tensorboard=None)
    log.image(5, "edits", np.zeros((4, 4, 3), np.uint8))
    log.close()


def test_a_damaged_file_is_named(path):
    path.write_text("{}\nnonsense\n")
    with pytest.raises(DataError, match=r"\.jsonl:2: "):
        MetricsLog(path, tensorboard=None)
