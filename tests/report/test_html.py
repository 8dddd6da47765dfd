import sys

import jinja2
import pytest

from mre_jax.errors import ConfigError
from mre_jax.report import Picture, Section, html
from mre_jax.report.charts import share_bar
from mre_jax.report.html import Markup, fixed, render, visible


@pytest.fixture
def made(monkeypatch):
    """Renders a template that is given as text."""

    environment = html._environment.__wrapped__()

    def render(source, **values):
        environment.cache.clear()
        environment.loader = jinja2.DictLoader({"t": source})
        monkeypatch.setattr(html, "_environment", lambda: environment)
        return html.render("t", **values)

    return render


def test_texts_are_escaped_and_markup_is_not(made):
    assert made("<p>{{ a }}{{ b }}</p>", a="<b>&", b=Markup("<i>")) == "<p>&lt;b&gt;&amp;<i></p>"


def test_an_attribute_cannot_be_left(made):
    element = made('<a title="{{ a }}">', a='"><script>')
    assert element == '<a title="&#34;&gt;&lt;script&gt;">'


def test_adding_to_markup_gives_text_again(made):
    assert made("{{ a }}", a=Markup("<b>") + "<") == "&lt;b&gt;&lt;"


def test_a_value_that_is_missing_is_an_error(made):
    for source in ("{{ a }}", "{% if a %}{% endif %}", "{{ b.c }}"):
        with pytest.raises(jinja2.UndefinedError):
            made(source, b={})


@pytest.mark.parametrize("unseen", ["\u202e", "\u2066", "\u200f", "\u200b", "\x07", "\ufeff"])
def test_characters_that_nobody_sees_are_shown(made, unseen):
    """Or "\\u202elive" reads "evil"."""
    said = f"[U+{ord(unseen):04X}]"
    found = made('<p title="{{ a }}">{{ a }}</p>', a=f"a{unseen}b")
    assert found == f'<p title="a{said}b">a{said}b</p>'


def test_a_value_that_the_script_reads_stays_as_it_is(made):
    assert made('"{{ a|as_it_is }}"', a='\u202e"<') == '"\u202e&#34;&lt;"'


def test_what_people_write_is_left_alone():
    text = "Größe\n\tعربي 👩\u200d🚀 क्\u200dष"
    assert visible(text) == text


def test_a_template_has_no_lines_in_the_page():
    assert "\n" not in render("browser.html")


@pytest.mark.parametrize(("value", "text"), [(None, "\u2013"), (2.504, "2.50"), (-1.25, "-1.25")])
def test_numbers_have_their_digits(value, text):
    assert fixed(value) == text


def test_a_section_has_its_parts_in_order_and_texts_are_escaped():
    section = Section(
        "h",
        prose="one <b>\n\ntwo",
        table="a | <i>",
        charts=[share_bar((1.0,), ("x",), title="t")],
        pictures=[Picture(b"png", 'a "sheet"')],
    )
    found = render("section.html", section=section)
    assert found.startswith("<p>one &lt;b&gt;</p><p>two</p><pre")
    assert "a | &lt;i&gt;</pre>" in found
    assert found.index("</pre>") < found.index("<svg") < found.index("data:image/png;base64,cG5n")
    assert 'alt="a &#34;sheet&#34;"' in found


def test_a_chart_that_is_only_text_stays_text():
    found = render("section.html", section=Section("h", charts=["<script>"]))
    assert "&lt;script&gt;" in found


def test_without_the_extra_one_line_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"matplotlib.*; pip install 'mre_jax\[report\]'"):
        share_bar((1.0,), ("x",), title="t")
