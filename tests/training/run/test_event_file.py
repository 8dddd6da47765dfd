import math

import numpy as np
import pytest
from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.training.run import event_file
from mre_jax.training.run.event_file import EventFile

tf = pytest.importorskip("tensorflow")


def events(folder):
    return [
        event
        for path in sorted(folder.iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
    ]


def test_tensorflow_reads_numbers_and_pictures(tmp_path):
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    file = EventFile(tmp_path)
    file.scalars(300, {"loss": 0.25, "rate": 1e-5})
    file.image(300, "edits", pixels)
    file.close()
    version, session, scalars, picture = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert session.session_log.status == session.session_log.START
    assert scalars.step == picture.step == 300 and scalars.wall_time > 1.6e9
    values = {value.tag: value.simple_value for value in scalars.summary.value}
    assert values == {"loss": 0.25, "rate": pytest.approx(1e-5)}
    image = picture.summary.value[0].image
    assert (image.height, image.width, image.colorspace) == (4, 5, 3)
    assert (tf.io.decode_png(image.encoded_image_string).numpy() == pixels).all()


def test_numbers_that_are_no_ordinary_floats(tmp_path):
    file = EventFile(tmp_path)
    file.scalars(0, {"nan": math.nan, "inf": math.inf, "large": 1e300, "negative": -2.0})
    values = {value.tag: value.simple_value for value in events(tmp_path)[2].summary.value}
    assert math.isnan(values["nan"]) and values["inf"] == values["large"] == math.inf
    assert values["negative"] == -2.0


def test_steps_that_are_done_again_are_dropped_by_tensorboard(tmp_path):
    EventFile(tmp_path).scalars(7, {"loss": 1.0})
    EventFile(tmp_path, start=5).scalars(6, {"loss": 2.0})
    found = events(tmp_path)
    starts = [e.step for e in found if e.HasField("session_log")]
    assert starts == [0, 5]
    assert [e.step for e in found if e.HasField("summary")] == [7, 6]  # files in their order


def test_a_bucket_gets_a_new_file_now_and_then(tmp_path, monkeypatch):
    clock = [0.0]
    real = epath.Path
    monkeypatch.setattr(epath, "Path", lambda p: real(str(p).replace("gs://b", str(tmp_path))))
    monkeypatch.setattr(event_file.time, "monotonic", lambda: clock[0])
    file = EventFile("gs://b")
    assert not list(tmp_path.iterdir())
    clock[0] = event_file.UPLOAD_SECONDS + 1
    file.scalars(1, {"loss": 1.0})
    assert len(list(tmp_path.iterdir())) == 1
    file.scalars(2, {"loss": 1.0})
    file.close()
    assert [e.step for e in events(tmp_path) if e.HasField("summary")] == [1, 2]


def test_a_missing_extra_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google_crc32c", None)
    with pytest.raises(ConfigError, match=r"log\.tensorboard needs google-crc32c: pip install"):
        EventFile(tmp_path)
