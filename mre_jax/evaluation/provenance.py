"""What decided a value besides the edit, and which values may stand beside each other.

A row of results says in plain who measured it (`measure`), by which prompt (`prompt_hash`), and in
`provenance` with which settings: of the judge its model, address, temperature, form, token limit
and so on; the name of the prompt pack; how pictures were sent. Rows of one metric in which any of
this differs go into no mean, table or comparison together. What a row does not say is not known:
rows of old files, which say nothing, agree with each other and with no others.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mre_jax.errors import DataError
from mre_jax.judges import settings
from mre_jax.judges.openai.client import OPENAI
from mre_jax.judges.packs.pack import packs_of
from mre_jax.judges.settings import NOT_COMPARED, OF_ITEM, UNKNOWN, Difference

if TYPE_CHECKING:
    from mre_jax.evaluation.results import Result

ORIGIN = ("best_of", "best_of_judge", "templates", "reply")
"""How a system's edits were picked of several, and what SmartEdit read and wrote to make them: what
was measured, and not how it was."""

_NOT_COMPARED = (*NOT_COMPARED, *ORIGIN)

_USUAL = {"api": "chat", "system": "system", "base_url": OPENAI}
"""What goes without saying where settings stand in a line."""

_PLURALS = {"measure": "judges or networks,", "prompt_hash": "prompts,"}


def shown(found: Difference) -> tuple[str, str]:
    """Both values for a message; prompts with the packs that have them."""
    return _shown(found.field, found.one), _shown(found.field, found.other)


def _shown(field: str, value: Any) -> str:
    packs = ", ".join(packs_of(value)) if field == "prompt_hash" else ""
    return f"{value!r} (of {packs})" if packs else repr(value)


def difference(one: "Result", other: "Result", but: Collection[str] = ()) -> Difference | None:
    """The first setting in which two rows of one metric differ; None if they are comparable.

    Args:
        but: settings that may differ.
    """
    return settings.difference(_settings(one), _settings(other), but)


def check_comparable(
    rows: Iterable["Result"], *, but: Collection[str] = (), apart: bool = False
) -> None:
    """Refuses rows of one metric that differ in what decided their values.

    Args:
        but: settings that may differ.
        apart: hold a row only to those of its own system; see `side_by_side`.

    Raises:
        DataError: naming the metric, the setting, and both values.
    """
    first: dict[tuple[str, str], Result] = {}
    for row in rows:
        if row.status != "ok":
            continue
        seen = first.setdefault((row.metric, row.system if apart else ""), row)
        if _equal(seen, row):
            continue
        if found := difference(seen, row, but):
            what = _PLURALS.get(found.field, f"settings, {found.field}")
            one, other = shown(found)
            raise DataError(
                f"{row.metric}: measured by different {what} {one} (item {seen.item} of "
                f"{seen.system}) and {other} (item {row.item} of {row.system}); keep them "
                "apart, or show them under different names with --side-by-side"
            )


def comparable(rows: Iterable["Result"]) -> bool:
    """Whether `check_comparable` finds nothing."""
    try:
        check_comparable(rows)
    except DataError:
        return False
    return True


def side_by_side(rows: Sequence["Result"]) -> list["Result"]:
    """The rows, those of different settings under systems of different names.

    Where the rows of a metric are not comparable, the system's name is followed by the settings in
    which they differ, "A [temperature 0.0]" and "A [temperature 1.7]"; in every perspective that
    was judged, so that these stay together. People's scores and a judge's keep their names: they
    are held apart everywhere. Of comparisons, whose systems are two, it is the suite's name.
    """
    judged = {(row.suite, row.metric) for row in rows if row.prompt_hash}

    def kin(row: "Result") -> tuple[str, bool, str]:
        return row.suite, row.people, "" if (row.suite, row.metric) in judged else row.metric

    metrics: dict[tuple[str, bool, str], list[Result]] = {}
    for row in rows:
        metrics.setdefault((row.suite, row.people, row.metric), []).append(row)
    fields: dict[tuple[str, bool, str], dict[str, None]] = {}
    for group in metrics.values():
        fields.setdefault(kin(group[0]), {}).update(dict.fromkeys(_differing(group)))
    return [_renamed(row, fields[kin(row)]) for row in rows]


def describe(row: "Result") -> str:
    """Who measured a row and how, as far as it is not as usual, in one line."""
    measure = row.measure or "unknown"
    if row.people:  # whom no settings are sent to
        return measure
    first = ("pack", "pictures")
    edits_own = ("templates", "reply", *OF_ITEM)
    known = {name: row.provenance.get(name) for name in [*first, *row.provenance]}
    unsaid = {**_USUAL, "model": row.measure, "max_tokens_field": known.get("max_tokens_field")}
    parts = [
        f"{name} {value}"
        for name, value in known.items()
        if name not in edits_own and value not in (None, unsaid.get(name))
    ]
    return f"{measure} ({', '.join(parts)})" if parts else measure


def _settings(row: "Result") -> dict[str, Any]:
    known = {name: value for name, value in row.provenance.items() if name not in _NOT_COMPARED}
    return {"measure": row.measure, "prompt_hash": row.prompt_hash, **known}


def _equal(one: "Result", other: "Result") -> bool:
    """Whether two rows say the same: most do, and this is quick."""
    return (one.measure, one.prompt_hash, one.provenance) == (
        other.measure,
        other.prompt_hash,
        other.provenance,
    )


def _differing(rows: Sequence["Result"]) -> list[str]:
    """The settings that are not the same in all rows with a value, as few as tell them apart."""
    found = [_settings(row) for row in rows if row.status == "ok"]
    names = dict.fromkeys(name for settings in found for name in settings)
    differing = [
        name
        for name in names
        if any(one.get(name, UNKNOWN) != found[0].get(name, UNKNOWN) for one in found[1:])
    ]
    if "model" in differing and "measure" in differing:  # an answer that failed has no snapshot
        differing.remove("measure")
    packs = {row.provenance.get("pack") for row in rows if row.status == "ok"}
    if "prompt_hash" in differing and len(packs) > 1:
        differing[differing.index("prompt_hash")] = "pack"
    return differing


def _renamed(row: "Result", fields: Iterable[str]) -> "Result":
    known = {**_settings(row), **row.provenance, "prompt_hash": row.prompt_hash[:8]}
    parts = [f"{field} {known.get(field, UNKNOWN)}" for field in fields]
    if not parts:
        return row
    said = f"[{', '.join(parts)}]"
    if row.against:
        return replace(row, suite=f"{row.suite} {said}")
    return replace(row, system=f"{row.system} {said}")
