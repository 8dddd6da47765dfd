import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.report.items import browser_data, list_pictures, script_json
from mre_jax.report.scores import Scores, Variant
from tests.report.rows import ASKED, make_row, make_world

values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(values)
def test_json_in_the_page_is_the_value_and_nothing_else(value):
    text = script_json(value)
    assert json.loads(text) == value
    assert "<" not in text
    assert ">" not in text


def test_json_cannot_end_its_script():
    text = script_json({"</script><script>": "<!--\u2028"})
    assert not set(text) & set("<>&\u2028")


def test_a_value_that_is_no_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json(float("nan"))


@pytest.fixture
def data(tmp_path):
    scores = Scores("real-edit", make_world(tmp_path))
    names = list_pictures([scores])
    uris = [f"data:{name}" for name in names]
    return browser_data([scores], names, uris, None), names


def test_each_picture_is_there_once(data):
    _, names = data
    assert len(names) == len(set(names)) == 3 + 6 * len(ASKED)


def test_an_item_has_its_scores_by_variant_and_metric(data):
    page, names = data
    item = next(item for item in page["items"] if item["id"] == "1-2")
    assert item["text"] == "style edit of photo 1"
    assert names[item["original"]] == "photos/1.png"
    edit = item["edits"][page["variants"].index("reward 5,5,5")]
    assert edit["values"] == [4.25, 4.5, 4.75]
    assert edit["reasons"][2] == "quality of 1-2 is so"
    assert names[edit["picture"]] == "edits/2/1-2.png"


def test_an_item_without_a_score_says_why(data):
    page, _ = data
    item = next(item for item in page["items"] if item["id"] == "2-2")
    edit = item["edits"][page["variants"].index("baseline")]
    assert edit["values"][0] is None
    assert edit["status"] == ["refused", "ok", "ok"]


def test_pictures_that_are_not_shown_and_edits_that_were_not_made_are_marked():
    rows = [make_row(edited="gone.png"), make_row(system="other", item="0-2")]
    scores = Scores("s", rows)
    names = list_pictures([scores])
    page = browser_data([scores], names, [""], (Variant("other", "5,5,5"), scores.variants[0]))
    assert page["items"][0]["edits"][0]["picture"] == -1
    assert page["items"][0]["edits"][1] is None
    assert (page["first"], page["second"]) == (1, 0)
