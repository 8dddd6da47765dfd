"""JSON lines: whatever text JSON can hold is read back as it was written, by any reader."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mre_jax.errors import DataError
from mre_jax.io.json_file import numbered_lines, parse_row, read_rows, to_line

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    # Two surrogates that stand side by side are one character to JSON.
    | ANY_TEXT.filter(lambda text: text == to_utf16_and_back(text)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def to_utf16_and_back(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=3))
@example([{"a": "snow\u2028sky\u2029sea\x85\r\n\x0b\x0c\x1c\x00\ufeff\u202eend"}])
@example([{"a": "\ud800"}])
def test_rows_are_read_back_as_they_were_written(rows):
    text = "".join(map(to_line, rows))
    assert [parse_row(line, "x") for _, line in numbered_lines(text.encode())] == rows
    assert len(text.splitlines()) == len(rows)  # by readers that break lines at more than \n too


def test_a_file_with_unescaped_separators_a_mark_and_windows_line_ends_is_read(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_bytes('\ufeff{"a": "snow\u2028sky\x85"}\r\n\r\n{"a": 1}'.encode())
    assert list(read_rows(path)) == [
        (f"{path}:1", {"a": "snow\u2028sky\x85"}),
        (f"{path}:3", {"a": 1}),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "x: not JSON"),
        (b"[1]", "x: want a JSON object, got list"),
        (b'{"a": "\xff"}', "x: not UTF-8 text"),
        ('{"a": 1}'.encode("utf-16"), "x: not UTF-8 text"),
        (b'{"a": "\xed\xa0\x80"}', "x: not UTF-8 text"),
        (b'{"a": NaN}', "x: not JSON .NaN is no number"),
        (b'{"a": 1e999}', "x: not JSON .1e999 is out of range"),
        (b'{"a": ' + b"9" * 5000 + b"}", "x: not JSON .*digits"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "x: not JSON"),
    ],
)
def test_a_line_that_is_no_object_is_named(line, message):
    with pytest.raises(DataError, match=message):
        parse_row(line, "x")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        list(read_rows(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path))
