import json

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.errors import DataError
from mre_jax.training.run import json_lines
from mre_jax.training.run.json_lines import JsonLines, read_json_lines

ROWS = [{"step": 1, "text": "größe\n"}, {"step": 2, "list": [1, None]}, {"step": 3}]


def write(path, rows):
    lines = JsonLines(path)
    for row in rows:
        lines.append(row)
    lines.flush()


def test_rows_come_back(tmp_path):
    write(tmp_path / "rows.jsonl", ROWS)
    assert read_json_lines(tmp_path / "rows.jsonl") == ROWS
    assert read_json_lines(tmp_path / "none.jsonl") == []


def test_a_line_is_on_the_disk_as_soon_as_it_is_appended(tmp_path):
    lines = JsonLines(tmp_path / "rows.jsonl")
    for count, row in enumerate(ROWS, 1):
        lines.append(row)
        assert len(read_json_lines(tmp_path / "rows.jsonl")) == count


def test_cut_anywhere_it_is_readable_and_goes_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = whole[:end].count(b"\n")
        assert read_json_lines(path) == ROWS[:kept]
        write(path, [{"next": end}])
        assert read_json_lines(path) == [*ROWS[:kept], {"next": end}]


def test_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = [float("nan"), np.float32("inf"), np.int64(3), np.ones(()), jnp.ones((1,)), True]
    write(path, [{str(i): value for i, value in enumerate(values)}])
    assert list(read_json_lines(path)[0].values()) == [None, None, 3, 1.0, 1.0, True]
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("line", ["[1]", "{", "3", "{} {}"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{{}}\n{line}\n{{}}\n")
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2"):
        read_json_lines(path)


def test_a_bucket_gets_the_whole_file_now_and_then(tmp_path, monkeypatch):
    clock = [0.0]
    real = epath.Path
    monkeypatch.setattr(epath, "Path", lambda p: real(str(p).replace("gs://b", str(tmp_path))))
    monkeypatch.setattr(json_lines.time, "monotonic", lambda: clock[0])
    write("gs://b/rows.jsonl", ROWS[:1])
    lines = JsonLines("gs://b/rows.jsonl")
    lines.append(ROWS[1])
    assert read_json_lines(tmp_path / "rows.jsonl") == ROWS[:1]
    clock[0] = json_lines.UPLOAD_SECONDS + 1
    lines.append(ROWS[2])
    assert read_json_lines(tmp_path / "rows.jsonl") == ROWS
    lines.append({"step": 4})
    lines.flush()
    assert read_json_lines(tmp_path / "rows.jsonl") == [*ROWS, {"step": 4}]


@given(st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.integers())))
def test_any_row_is_one_line(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(path, [row, {}])
    assert len(read_json_lines(path)) == 2
    assert path.read_bytes().count(b"\n") == 2
