"""The controls of the item browser; `page.js` fills them and draws the items."""

from mre_jax.report.markup import Markup, join, tag


def browser() -> Markup:
    """Filters, pager, list and the enlarged view, all empty."""
    return join(
        [
            tag("noscript", tag("p", "The items are drawn by JavaScript.", class_="note")),
            _filters(),
            tag("h3", "Items", id="items-heading", tabindex="-1", class_="unseen"),
            _pager(top=True),
            tag("ol", id="items"),
            _pager(top=False),
            _dialog(),
        ]
    )


def _filters() -> Markup:
    anything = {"": "all"}
    orders = {
        "": "as listed",
        "worst": "worst first, by A",
        "best": "best first, by A",
        "gains": "largest gain of A over B first",
        "losses": "largest loss of A to B first",
    }
    sizes = {str(size): str(size) for size in (10, 20, 50)}
    fields = [
        _field("search", "Search", tag("input", type="search", **_named("search"))),
        _field("suite", "Suite", _select("suite", anything)),
        _field("kind", "Type of instruction", _select("kind", anything)),
        _field("metric", "Perspective", _select("metric", {})),
        _field("first", "A", _select("first", {})),
        _field("second", "B", _select("second", {})),
        _field("sort", "Order", _select("sort", orders)),
        _field("size", "Items on a page", _select("size", sizes)),
    ]
    checks = [
        _check("wins", "only where A beats B"),
        _check("gaps", "only with a missing score"),
        _check("reasons", "show reasons"),
        tag("button", "Reset", type="button", id="widen"),
    ]
    row = tag("div", *checks, class_="checks")
    shown = tag("fieldset", tag("legend", "Systems shown"), id="systems", class_="checks")
    return tag("form", *fields, shown, row, id="filters", aria_label="Filters")


def _field(name: str, text: str, control: Markup) -> Markup:
    return tag("div", tag("label", text, for_=f"filter-{name}"), control, class_="field")


def _named(name: str) -> dict[str, str]:
    """A control is left as it is told to be, not as a browser remembers it."""
    return {"name": name, "id": f"filter-{name}", "autocomplete": "off"}


def _check(name: str, text: str) -> Markup:
    return tag("label", tag("input", type="checkbox", name=name), text)


def _select(name: str, options: dict[str, str]) -> Markup:
    choices = [tag("option", text, value=value) for value, text in options.items()]
    return tag("select", *choices, **_named(name))


def _pager(*, top: bool) -> Markup:
    name = "Pages" if top else "Pages, below the items"
    count = tag("span", class_="count", id="count", role="status") if top else None
    where = tag("span", class_="where")
    before = tag("button", "Previous", type="button", value="-1")
    after = tag("button", "Next", type="button", value="1")
    return tag("div", count, before, where, after, class_="pager", role="group", aria_label=name)


def _dialog() -> Markup:
    close = tag("form", tag("button", "Close"), method="dialog")
    slider = tag("input", type="range", min=0, max=100, value=50, **_named("cut"))
    choices = tag(
        "div",
        _field("left", "Left", _select("left", {})),
        _field("right", "Right", _select("right", {})),
        _check("apart", "side by side"),
        tag("div", tag("label", "Where they meet", for_="filter-cut"), slider, class_="field wide"),
        class_="choices",
    )
    stage = tag("div", class_="stage")
    parts = [close, tag("h2", id="closer-title"), choices, stage, tag("div", class_="pair said")]
    return tag("dialog", *parts, id="closer", aria_labelledby="closer-title")
