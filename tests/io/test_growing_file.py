import json
import os

import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.errors import BusyError, ConfigError, DataError
from mre_jax.io import growing_file
from mre_jax.io.growing_file import GrowingFile, plain, read_growing, rows_so_far

ROWS = [{"step": 1, "text": "größe\n"}, {"step": 2, "list": [1, None]}, {"step": 3}]


def opened(path):
    return GrowingFile(path, lock=False, bucket=True)


def write(path, rows):
    with opened(path) as file:
        for row in rows:
            file.append(row)


def test_rows_come_back(tmp_path):
    write(tmp_path / "rows.jsonl", ROWS)
    assert rows_so_far(tmp_path / "rows.jsonl") == ROWS
    assert rows_so_far(tmp_path / "none.jsonl") == []
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        list(read_growing(tmp_path / "none.jsonl"))


def test_a_line_is_on_the_disk_as_soon_as_it_is_appended(tmp_path):
    with opened(tmp_path / "rows.jsonl") as file:
        for count, row in enumerate(ROWS, 1):
            file.append(row)
            assert len(rows_so_far(tmp_path / "rows.jsonl")) == count


def test_a_row_is_found_by_its_offset(tmp_path):
    long = [{"step": step, "text": "ö" * 50_000} for step in range(4)]
    with opened(tmp_path / "rows.jsonl") as file:
        offsets = [file.append(row) for row in [*ROWS, *long]]
        assert [file.read(offset) for offset in offsets] == [*ROWS, *long]
        assert [line.offset for line in file.lines()] == offsets
        several = file.append(*ROWS)
        assert file.read(several) == ROWS[0]
    where = [line.where for line in read_growing(tmp_path / "rows.jsonl")]
    assert where[-1] == f"{tmp_path / 'rows.jsonl'}:10"


def test_cut_anywhere_it_is_readable_and_goes_on(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, ROWS)
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        kept = whole[:end].count(b"\n")
        assert rows_so_far(path) == ROWS[:kept]
        write(path, [{"next": end}])
        assert rows_so_far(path) == [*ROWS[:kept], {"next": end}]


def test_a_torn_line_may_be_long(tmp_path):
    path = tmp_path / "rows.jsonl"
    for size in (1 << 16, (1 << 16) + 1, 300_000):
        path.write_bytes(b'{"a": 1}\n' + b"x" * size)
        write(path, [{"b": 2}])
        assert rows_so_far(path) == [{"a": 1}, {"b": 2}]
        path.write_bytes(b"x" * size)
        write(path, [{"b": 2}])
        assert rows_so_far(path) == [{"b": 2}]


def test_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "rows.jsonl"
    values = [float("nan"), np.float32("inf"), np.int64(3), np.ones(()), jnp.ones((1,)), True]
    write(path, [plain({str(i): value for i, value in enumerate(values)})])
    assert list(rows_so_far(path)[0].values()) == [None, None, 3, 1.0, 1.0, True]
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("line", ["[1]", "{", "3", "{} {}", "NaN", '{"a": NaN}'])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{{}}\n\n{line}\n{{}}\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:3: "):
        rows_so_far(path)


def test_a_byte_order_mark_and_blank_lines_do_not_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n \n{"b": 2}\n')
    assert rows_so_far(path) == [{"a": 1}, {"b": 2}]


def test_a_second_writer_is_refused(tmp_path):
    with GrowingFile(tmp_path / "rows.jsonl") as first:
        with pytest.raises(BusyError), GrowingFile(tmp_path / "rows.jsonl"):
            pass
        first.append({})
    with GrowingFile(tmp_path / "rows.jsonl"):
        pass


def test_a_file_whose_loading_fails_is_let_go(tmp_path):
    def read(line):
        raise DataError(f"{line.where}: not mine")

    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="1: not mine"), GrowingFile(tmp_path / "rows.jsonl", read):
        pass
    with GrowingFile(tmp_path / "rows.jsonl"):
        pass


def test_a_folder_a_bucket_and_a_forbidden_place_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder"), GrowingFile(tmp_path):
        pass
    with pytest.raises(ConfigError, match="bucket"):
        GrowingFile("gs://b/rows.jsonl")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="mend that"), GrowingFile(tmp_path / "file" / "rows.jsonl"):
        pass


def test_of_a_row_that_a_full_disk_stops_nothing_stays(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    with opened(path) as file:
        file.append({"a": 1})
        real = os.write

        def full(descriptor, data):
            if len(data) < 10:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[:10])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(DataError, match="no space left"):
            file.append({"b": 234567})
        monkeypatch.undo()
        file.append({"c": 3})
    assert rows_so_far(path) == [{"a": 1}, {"c": 3}]


def test_a_bucket_gets_the_whole_file_now_and_then(tmp_path, monkeypatch):
    clock = [0.0]
    real = epath.Path
    monkeypatch.setattr(epath, "Path", lambda p: real(str(p).replace("gs://b", str(tmp_path))))
    monkeypatch.setattr(growing_file.time, "monotonic", lambda: clock[0])
    write("gs://b/rows.jsonl", ROWS[:1])
    with opened("gs://b/rows.jsonl") as file:
        file.append(ROWS[1])
        assert rows_so_far(tmp_path / "rows.jsonl") == ROWS[:1]
        clock[0] = growing_file.UPLOAD_SECONDS + 1
        file.append(ROWS[2])
        assert rows_so_far(tmp_path / "rows.jsonl") == ROWS
        file.append({"step": 4})
    assert rows_so_far(tmp_path / "rows.jsonl") == [*ROWS, {"step": 4}]


@given(st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.integers())))
def test_any_row_is_one_line(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(path, [plain(row), {}])
    assert len(rows_so_far(path)) == 2
    assert path.read_bytes().count(b"\n") == 2
