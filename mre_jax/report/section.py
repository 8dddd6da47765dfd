"""A part of the page that its caller brings."""

import base64
import dataclasses
from collections.abc import Sequence

from mre_jax.report.markup import Markup, tag


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG that is shown as it is.

    Attributes:
        png: the file's bytes.
        text: what it shows, for those who do not see it.
    """

    png: bytes
    text: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in the order of the fields.

    Attributes:
        heading: also the entry in the page's list of contents.
        prose: paragraphs, with empty lines between them.
        table: text in columns, as `mre tables` prints it.
        charts: of `mre_jax.report.charts`.
        pictures: shown as they are; they are not part of the page's budget.
    """

    heading: str
    prose: str = ""
    table: str = ""
    charts: Sequence[Markup] = ()
    pictures: Sequence[Picture] = ()


def section_body(section: Section) -> list[Markup]:
    """The elements below the heading."""
    parts = [tag("p", text.strip()) for text in section.prose.split("\n\n") if text.strip()]
    if section.table:
        parts.append(tag("pre", section.table, tabindex="0"))
    if section.charts:
        figures = [tag("figure", chart) for chart in section.charts]
        parts.append(tag("div", *figures, class_="charts"))
    for picture in section.pictures:
        uri = f"data:image/png;base64,{base64.b64encode(picture.png).decode()}"
        parts.append(tag("img", src=uri, alt=picture.text, class_="section-picture"))
    return parts
