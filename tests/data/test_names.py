"""Any text becomes an id of its own, and what is one already stays."""

from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.names import ID, safe_id, safe_name


@given(st.text(max_size=200), st.text(max_size=200))
def test_every_text_has_an_id_and_no_two_share_one(text, other):
    assert ID.fullmatch(safe_id(text))
    assert (safe_id(text) == safe_id(other)) == (text == other)


def test_what_is_an_id_stays_and_the_rest_can_be_recognised():
    assert safe_id("IMG_1.a-b") == "IMG_1.a-b"
    assert safe_id("train/IMG 1").startswith("train-IMG-1-")
    assert safe_name("train/IMG 1") == "train-IMG-1"
    assert safe_name("..") == "unnamed"
