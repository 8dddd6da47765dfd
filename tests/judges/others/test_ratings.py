"""Tables of people's scores, in the forms in which studies give them out."""

import json

import pytest

from mre_jax.errors import DataError
from mre_jax.judges.others.ratings import Rating, read_ratings


def read(tmp_path, text, name="s.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return read_ratings(tmp_path / name)


def test_a_long_and_a_wide_table_say_the_same(tmp_path):
    long = read(
        tmp_path,
        "system,item,annotator,perspective,score\n"
        "A,1,ann,following,4\nA,1,ann,quality,2.5\nA,1,bob,following,3\n",
    )
    wide = read(
        tmp_path, "system,item,annotator,following,quality\nA,1,ann,4,2.5\nA,1,bob,3,\n", "w.csv"
    )
    assert long == wide
    assert long[1] == Rating("1", "quality", 2.5, system="A", annotator="ann")


def test_tables_of_spreadsheets(tmp_path):
    """A byte order mark, semicolons or tabs, capital headings, line breaks in a cell."""
    expected = [Rating("1", "following", 4, system="A", text="two\nlines")]
    semicolons = '\ufeffSystem;Item;Perspective;Score;Text\r\nA;1;following;4;"two\nlines"\r\n'
    assert read(tmp_path, semicolons) == expected
    assert read(tmp_path, semicolons.replace(";", "\t"), "s.tsv") == expected


def test_headings_in_capitals_and_decimal_commas(tmp_path):
    """As a spreadsheet of another language writes them; all scores were missing, or refused."""
    expected = [Rating("1", "following", 3.5), Rating("1", "quality", 4)]
    assert read(tmp_path, "Item;Following;QUALITY\n1;3,5;4\n") == expected
    assert read(tmp_path, 'item,perspective,score\n1,Following,"3,5"\n1,quality,4\n') == expected
    with pytest.raises(DataError, match="score '1,2,3' is not a number"):
        read(tmp_path, "item;q\n1;1,2,3\n")


def test_json_lines_are_wide_or_long(tmp_path):
    rows = [{"item": 1, "following": 4}, {"item": 2, "perspective": "quality", "score": 3}]
    found = read(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "s.jsonl")
    assert found == [Rating("1", "following", 4), Rating("2", "quality", 3)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,perspective,score\n1,q,4\n1,q,5\n", r"s.csv:3: '1', q is scored twice; tell them "
         r"apart in a column 'annotator' or 'system', first in .*s.csv:2"),
        ("system,item,annotator,perspective,score\nA,1,x,q,4\nA,1,x,q,4\n",
         "'1' of A, q is scored twice by 'x'; keep one"),
        ("system,item,q\nA,1,4\n,2,4\n", "some rows have a system and some have none"),
        ("item,q\n1,4,5\n", "more cells than the heading"),
        ("item,q,mood\n1,4,fine\n", "s.csv:2, mood: score 'fine' is not a number"),
        ("item,q\n,4\n", "nothing in 'item'"),
        ("id,q\na,4\n", "no column 'item'; it has id, q"),
        ("item,q\n1,\n", "no scores in it"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_clear_is_refused_by_row(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)
