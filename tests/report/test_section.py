from mre_jax.report.charts import share_bar
from mre_jax.report.section import Picture, Section, section_body


def test_a_section_has_its_parts_in_order_and_texts_are_escaped():
    section = Section(
        "h",
        prose="one <b>\n\ntwo",
        table="a | <i>",
        charts=[share_bar((1.0,), ("x",), title="t")],
        pictures=[Picture(b"png", 'a "sheet"')],
    )
    html = "".join(section_body(section))
    assert html.startswith("<p>one &lt;b&gt;</p><p>two</p><pre")
    assert "a | &lt;i&gt;</pre>" in html
    assert html.index("</pre>") < html.index("<svg") < html.index("data:image/png;base64,cG5n")
    assert 'alt="a &quot;sheet&quot;"' in html


def test_a_chart_that_is_only_text_stays_text():
    (part,) = section_body(Section("h", charts=["<script>"]))
    assert "&lt;script&gt;" in part
