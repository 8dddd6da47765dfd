"""The page in a real browser: it runs under its policy, filters, sorts, and shows texts as texts.

Chromium is found by the environment variable MRE_CHROMIUM or on the PATH.
"""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import pytest

from mre_jax.report import write_report
from tests.report.rows import make_world

playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install 'mre_jax[dev]'"
)
expect = playwright.expect
expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("MRE_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)}, and MRE_CHROMIUM is not set"
)
HOSTILE = "</script><script>document.title='x'</script><img src=x onerror=alert(1)>=1+1\"'"


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    rows = [
        dataclasses.replace(row, instruction=HOSTILE, reason=HOSTILE) if row.item == "0-2" else row
        for row in make_world(folder)
    ]
    compare = ("reward 5,5,5", "baseline")
    write_report(folder / "report.html", rows, root=folder, title="Report", compare=compare)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    # As root, as in many containers, Chromium's sandbox does not start.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium, page_url):
    """The page, open; at the end there must have been no error in its console."""
    page = chromium.new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            errors.append(request.url) if not request.url.startswith((page_url, "data:")) else None
        ),
    )
    page.goto(page_url)
    yield page
    page.close()
    assert errors == []


def control(page, name):
    return page.get_by_role("form", name="Filters").get_by_label(name, exact=True)


def titles(page):
    return page.locator(".item h3")


def test_everything_is_drawn(page):
    expect(page.locator("#count")).to_have_text("6 of 6 items")
    expect(titles(page)).to_have_count(6)
    expect(page.locator("svg.chart").first).to_be_visible()
    expect(page.locator(".item").first.locator("img")).to_have_count(7)
    first = page.locator(".item img").first
    expect(first).to_have_class("small")  # set once it has loaded
    assert first.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [16, 12]


def test_filters_narrow_and_reset_widens(page):
    control(page, "Type of instruction").select_option("Style")
    expect(page.locator("#count")).to_have_text("3 of 6 items")
    control(page, "Search").fill("2-2 PHOTO")
    expect(titles(page)).to_have_text(["style edit of photo 2"])
    control(page, "Search").fill("quality of 1-1 is so")  # a reason
    expect(page.locator(".empty")).to_be_visible()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#count")).to_have_text("6 of 6 items")


def test_items_without_a_score_are_found(page):
    control(page, "only with a missing score").check()
    expect(titles(page)).to_have_text(["style edit of photo 2"])
    expect(page.locator(".failed")).to_have_text("refused")


def test_worst_and_best_come_first_by_the_chosen_perspective(page):
    control(page, "Order").select_option("worst first, by A")
    expect(titles(page).first).to_have_text("local edit of photo 0")
    control(page, "Order").select_option("best first, by A")
    expect(titles(page).first).to_have_text("style edit of photo 2")
    # Of the baseline this item has no following: it is last, whichever way.
    control(page, "A").select_option("baseline")
    control(page, "Perspective").select_option("following")
    expect(titles(page).first).to_have_text("style edit of photo 1")
    expect(titles(page).last).to_have_text("style edit of photo 2")


def test_only_where_a_beats_b_follows_the_choice_of_a_and_b(page):
    control(page, "only where A beats B").check()
    expect(page.locator("#count")).to_have_text("5 of 6 items")  # one has no pair
    control(page, "A").select_option("reward 0,0,0")
    expect(page.locator("#count")).to_have_text("0 of 6 items")


def test_texts_of_the_results_are_inert(page):
    control(page, "Search").fill("0-2")
    expect(titles(page).first).to_have_text(HOSTILE)
    control(page, "show reasons").check()
    expect(page.locator(".item details p").first).to_have_text(f"following {HOSTILE}")
    expect(page).to_have_title("Report")
    assert page.locator("img[onerror]").count() == 0
    assert page.locator("script").count() == 2


def test_the_keyboard_is_enough(page):
    control(page, "Search").focus()
    page.keyboard.type("1-1")
    expect(titles(page)).to_have_count(1)
    picture = page.get_by_role("button", name="Enlarge the edit by reward 5,5,5").first
    picture.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="local edit of photo 1")
    expect(dialog.locator("img")).to_have_count(2)
    expect(dialog).to_contain_text("following of 1-1 is so")
    dialog.get_by_label("Where they meet").focus()
    page.keyboard.press("End")
    expect(dialog.locator(".stage")).to_have_attribute("style", re.compile("--cut: 100%"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(picture).to_be_focused()


def test_any_two_systems_are_laid_over_each_other(page):
    """Scores stand under the edit that they are of."""
    page.get_by_role("button", name="A against B, item 1-1").click()
    dialog = page.get_by_role("dialog", name="local edit of photo 1")
    expect(dialog.locator("img")).to_have_count(2)
    expect(dialog.locator("figcaption")).to_have_text(["reward 5,5,5", "baseline"])
    expect(dialog.locator(".side h3")).to_have_text(["reward 5,5,5", "baseline"])
    boxes = [image.bounding_box() for image in dialog.locator("img").all()]
    assert boxes[0] == boxes[1]
    dialog.get_by_label("Left").select_option("Original")
    expect(dialog.locator("figcaption")).to_have_text(["Original", "baseline"])
    expect(dialog.locator(".side").first).to_be_empty()
    expect(dialog.locator(".side").last).to_contain_text("2.0")
    dialog.get_by_label("side by side").check()
    left, right = (image.bounding_box() for image in dialog.locator("img").all())
    assert left["x"] + left["width"] <= right["x"]


def test_systems_are_chosen_and_many_stand_in_one_line(page):
    page.set_viewport_size({"width": 900, "height": 800})
    figures = page.locator(".item").first.locator("figure")
    expect(figures).to_have_count(7)
    tops = {figure.bounding_box()["y"] for figure in figures.all()}
    assert len(tops) == 1
    assert page.evaluate("document.documentElement.scrollWidth") == 900
    page.get_by_label("baseline", exact=True).uncheck()
    expect(figures).to_have_count(6)
    page.get_by_role("button", name="Reset").click()
    expect(figures).to_have_count(6)  # what is looked at is no filter of the items


def test_marks_of_direction_are_shown_and_stay_in_the_data(chromium, tmp_path):
    hidden = "\u202elive\u202c \u200fgood\x07"
    rows = [dataclasses.replace(row, instruction=hidden) for row in make_world(tmp_path)]
    write_report(tmp_path / "r.html", rows, root=tmp_path, title=hidden)
    page = chromium.new_page()
    page.goto((tmp_path / "r.html").as_uri())
    shown = "[U+202E]live[U+202C] [U+200F]good[U+0007]"
    expect(titles(page).first).to_have_text(shown)
    expect(page.locator("h1")).to_have_text(shown)
    data = "JSON.parse(document.getElementById('data').textContent).items[0].text"
    assert page.evaluate(data) == hidden
    page.close()


def test_full_size_pictures_are_found_beside_the_page(chromium, tmp_path):
    write_report(
        tmp_path / "r.html", make_world(tmp_path), root=tmp_path, title="T", pictures="beside"
    )
    page = chromium.new_page()
    errors = []
    page.on("console", lambda message: errors.append(message.text))
    page.goto((tmp_path / "r.html").as_uri())
    image = page.locator(".item img").first
    image.scroll_into_view_if_needed()  # it is read when it is looked at
    expect(image).to_have_class("small")  # set once it has loaded
    assert image.evaluate("image => image.src").endswith("r_files/000000.png")
    page.close()
    assert errors == []


def test_a_gain_leads_to_its_item(page):
    page.get_by_role("button", name="Show item 1-1").click()
    expect(titles(page)).to_have_text(["local edit of photo 1"])
    expect(titles(page).first).to_be_in_viewport()


def test_it_fits_a_telephone(page):
    page.set_viewport_size({"width": 360, "height": 740})
    expect(titles(page)).to_have_count(6)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("button.picture").first.click()
    box = page.get_by_role("dialog").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_pages_turn(chromium, tmp_path):
    rows = make_world(tmp_path)
    more = [
        dataclasses.replace(row, item=f"{n}/{row.item}", group=f"{n}/{row.group}")
        for n in range(3)
        for row in rows
    ]
    write_report(Path(tmp_path / "r.html"), more, root=tmp_path, title="T")
    page = chromium.new_page()
    page.goto((tmp_path / "r.html").as_uri())
    pager = page.get_by_role("group", name="Pages", exact=True)
    expect(page.locator(".item")).to_have_count(10)
    expect(pager.get_by_role("button", name="Previous")).to_be_disabled()
    pager.get_by_role("button", name="Next").click()
    expect(page.locator(".item")).to_have_count(8)
    expect(pager).to_contain_text("Page 2 of 2")
    expect(pager.get_by_role("button", name="Next")).to_be_disabled()
    control(page, "Items on a page").select_option("20")
    expect(page.locator(".item")).to_have_count(18)
    page.close()
