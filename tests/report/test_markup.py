import pytest

from mre_jax.report.markup import Markup, join, number, tag, visible


def test_texts_are_escaped_and_markup_is_not():
    element = tag("p", "<b>&", tag("i", "x"), None)
    assert element == "<p>&lt;b&gt;&amp;<i>x</i></p>"


def test_an_attribute_cannot_be_left():
    assert tag("a", title='"><script>') == '<a title="&quot;&gt;&lt;script&gt;"></a>'


def test_attributes_have_their_html_names():
    element = tag("input", class_="x", aria_label="a", hidden=True, checked=False, value=None)
    assert element == '<input class="x" aria-label="a" hidden>'


def test_adding_to_markup_gives_text_again():
    assert join([Markup("<b>") + "<"]) == "&lt;b&gt;&lt;"


@pytest.mark.parametrize(
    ("value", "text"), [(3.0, "3"), (2.504, "2.5"), (-1.25, "-1.25"), (10, "10")]
)
def test_coordinates_are_short(value, text):
    assert number(value) == text


@pytest.mark.parametrize("unseen", ["\u202e", "\u2066", "\u200f", "\u200b", "\x07", "\ufeff"])
def test_characters_that_nobody_sees_are_shown(unseen):
    """Or "\\u202elive" reads "evil"."""
    said = f"[U+{ord(unseen):04X}]"
    assert tag("p", f"a{unseen}b", title=unseen) == f'<p title="{said}">a{said}b</p>'


def test_what_people_write_is_left_alone():
    text = "Größe\n\tعربي 👩\u200d🚀 क्\u200dष"
    assert visible(text) == text
