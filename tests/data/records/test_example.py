"""Triplets survive their records, and records that are not triplets are named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mre_jax.data.provenance import Provenance
from mre_jax.data.records.example import (
    decode_features,
    decode_triplet,
    encode_features,
    encode_triplet,
)
from mre_jax.data.triplets import Triplet
from mre_jax.errors import DataError
from tests.data.pictures import AFTER, BEFORE

SCORE = st.integers(0, 50).map(lambda tenths: tenths / 10)
TRIPLETS = st.builds(
    Triplet,
    id=st.from_regex(r"[a-z][A-Za-z0-9._-]{0,20}", fullmatch=True),
    original=st.binary(min_size=1),
    edited=st.binary(min_size=1),
    instruction=st.text(),
    original_caption=st.none() | st.text(min_size=1),
    edited_caption=st.none() | st.text(min_size=1),
    scores=st.tuples(SCORE, SCORE, SCORE),
    texts=st.tuples(st.text(), st.text(), st.text()),
    source=st.text(),
)


@given(TRIPLETS)
def test_a_triplet_comes_back_as_it_was(triplet):
    assert decode_triplet(encode_triplet(triplet), "file: record 3") == (triplet, {})


def test_what_is_absent_stays_absent():
    triplet = Triplet("a", BEFORE, AFTER, "edit")
    back, _ = decode_triplet(encode_triplet(triplet))
    assert back == triplet
    assert (back.scores, back.texts, back.original_caption) == (None, None, None)


def test_other_features_are_carried_untouched():
    extra = {"moments_original": [b"\x00\xff" * 8], "width": np.array([-3, 2**40], np.int64)}
    _, found = decode_triplet(encode_triplet(Triplet("a", BEFORE, AFTER, "edit"), extra))
    assert sorted(found) == sorted(extra)
    assert found["moments_original"] == extra["moments_original"]
    np.testing.assert_array_equal(found["width"], extra["width"])


def test_the_bytes_are_those_of_the_public_message():
    # features { feature { key: "a" value { bytes_list { value: "x" } } } ... }, written by hand.
    want = b"\x0a\x1f" + b"\x0a\x0a\x0a\x01a\x12\x05\x0a\x03\x0a\x01x"
    want += b"\x0a\x11\x0a\x01b\x12\x0c\x12\x0a\x0a\x08" + np.float32([1.5, -1]).tobytes()
    assert encode_features({"b": np.float32([1.5, -1]), "a": [b"x"]}) == want
    unpacked = b"\x0a\x0e\x0a\x0c\x0a\x01b\x12\x07\x12\x05" + b"\x0d\x00\x00\xc0\x3f"
    np.testing.assert_array_equal(decode_features(unpacked)["b"], np.float32([1.5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edited": None}, "no feature 'edited'; it has edited_caption, id"),
        ({"edited": []}, "feature 'edited' has 0 values of bytes; want 1 of bytes"),
        ({"edited": [b""]}, "no edited picture"),
        ({"instruction": np.float32([1])}, "'instruction' has 1 values of float32; want 1 of"),
        ({"instruction": [b"\xff"]}, "'instruction' is not UTF-8 text"),
        ({"scores": np.float32([1, 2])}, "'scores' is not 3 floats"),
        ({"scores": np.float32([1, 2, 7])}, r"7"),
        ({"texts": [b"a"]}, "feature 'texts' has 1 values of bytes; want 3 of bytes"),
    ],
)
def test_a_record_that_is_no_triplet_is_refused_by_name(change, message):
    features = decode_features(encode_triplet(Triplet("a", BEFORE, AFTER, "edit"))) | change
    record = encode_features({k: v for k, v in features.items() if v is not None})
    with pytest.raises(DataError, match=message) as error:
        decode_triplet(record, "s.tfrecord: record 4")
    assert str(error.value).startswith("s.tfrecord: record 4: ")


def test_bytes_of_another_kind_are_refused():
    with pytest.raises(DataError, match=r"s: not a tf\.train\.Example"):
        decode_features(b"\xff" * 20, "s")


def test_a_record_tells_where_its_edit_comes_from():
    made = Provenance("ab" * 32, round=2, seed=7, source="toy", example="0000003", judge="toy-1")
    triplet = Triplet("a", BEFORE, AFTER, "edit", provenance=made)
    back, rest = decode_triplet(encode_triplet(triplet))
    assert (back.provenance, rest) == (made, {})
    plain = encode_triplet(Triplet("a", BEFORE, AFTER, "edit"))
    assert b"provenance" not in plain and decode_triplet(plain)[0].provenance is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "provenance: not JSON"),
        (b"[]", r"provenance \[\] is no object"),
        (b'{"model": "m"}', "provenance has no 'round'"),
        (b'{"model": 3}', "provenance has model = 3"),
        (b'{"maker": "m"}', "provenance has an unknown field 'maker'"),
    ],
)
def test_a_damaged_provenance_is_named(text, message):
    record = encode_triplet(Triplet("a", BEFORE, AFTER, "edit"), {"provenance": [text]})
    with pytest.raises(DataError, match=f"^file: record 3.*{message}"):
        decode_triplet(record, "file: record 3")
