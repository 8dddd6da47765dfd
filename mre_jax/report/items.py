"""What the page's script shows: every item with its pictures, scores and reasons, as JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

from mre_jax.evaluation.results import Result
from mre_jax.evaluation.statistics.ranking import lower_is_better
from mre_jax.report.html import Markup
from mre_jax.report.scores import Scores, Variant, is_one_edit

NO_PICTURE = -1


def list_pictures(suites: Sequence[Scores]) -> list[str]:
    """The files of all pictures, each once, in the order they are looked at."""
    names: dict[str, None] = {}
    for item in _items(suites).values():
        edits = [row.edited for row in item]
        names.update(dict.fromkeys([*(row.original for row in item), *edits]))
    return [name for name in names if name]


def browser_data(
    suites: Sequence[Scores],
    names: Sequence[str],
    uris: Sequence[str],
    chosen: tuple[Variant, Variant] | None,
) -> dict[str, Any]:
    """The data of the page's script.

    Args:
        names, uris: the pictures' files and what to show for them.
        chosen: the two variants that are compared at first.
    """
    variants = list(dict.fromkeys(variant for one in suites for variant in one.variants))
    metrics = list(dict.fromkeys(metric for one in suites for metric in _item_metrics(one)))
    perspectives = {(name, one.people) for one in suites for name in one.perspectives}
    judged = [metric for metric in metrics if metric in perspectives]
    metrics = judged + [metric for metric in metrics if metric not in perspectives]
    by_people = all(people for _, people in judged)
    places = {name: place for place, name in enumerate(names) if uris[place]}
    first, second = chosen or (variants[-1], variants[0])
    return {
        "variants": [variant.label for variant in variants],
        "first": variants.index(first),
        "second": variants.index(second),
        "metrics": [
            {
                "name": f"{name} (people)" if people and not by_people else name,
                "lower": lower_is_better(name),
                "people": people and not by_people,
            }
            for name, people in metrics
        ],
        "perspectives": len(judged),
        "kinds": list(dict.fromkeys(kind for one in suites for kind in one.kinds)),
        "suites": list(dict.fromkeys(one.suite for one in suites)),
        "items": [_item(rows, variants, metrics, places) for rows in _items(suites).values()],
        "pictures": list(uris),
    }


def script_json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    # A lone half of a surrogate pair, which JSON can hold, has no UTF-8.
    return Markup(re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text))


def _items(suites: Sequence[Scores]) -> dict[tuple[str, str], list[Result]]:
    """The rows of every item, by whomever they are, by suite and item."""
    items: dict[tuple[str, str], list[Result]] = {}
    for scores in suites:
        for row in scores.rows:
            if is_one_edit(row):
                items.setdefault((row.suite, row.item), []).append(row)
    return items


def _item_metrics(scores: Scores) -> list[tuple[str, bool]]:
    """Metrics that single edits have, each with whether people scored."""
    found = {row.metric for row in scores.rows if is_one_edit(row)}
    return [(metric, scores.people) for metric in scores.metrics if metric in found]


def _item(
    rows: Sequence[Result],
    variants: Sequence[Variant],
    metrics: Sequence[tuple[str, bool]],
    places: dict[str, int],
) -> dict[str, Any]:
    original = next((row.original for row in rows if row.original), "")
    found = {(Variant(row.system, row.condition), row.metric, row.people): row for row in rows}
    edits = [[found.get((variant, *metric)) for metric in metrics] for variant in variants]
    return {
        "id": rows[0].item,
        "suite": rows[0].suite,
        "kind": rows[0].kind,
        "text": next((row.instruction for row in rows if row.instruction), ""),
        "original": places.get(original, NO_PICTURE),
        "edits": [_edit(one, places) if any(one) else None for one in edits],
    }


def _edit(rows: Sequence[Result | None], places: dict[str, int]) -> dict[str, Any]:
    """One variant's edit of an item, its values in the order of the metrics."""
    edited = next((row.edited for row in rows if row and row.edited), "")
    return {
        "picture": places.get(edited, NO_PICTURE),
        "values": [row and row.value for row in rows],
        "passed": [row and row.passed for row in rows],
        "status": [row.status if row else "" for row in rows],
        "reasons": [row.reason if row else "" for row in rows],
    }
