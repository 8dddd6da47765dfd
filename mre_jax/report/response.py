"""What asking does: achieved scores against asked ones."""

import collections
import dataclasses
from collections.abc import Sequence

from mre_jax.report.charts import Series, heat_matrix, line_chart
from mre_jax.report.html import NOTHING, Markup, interval, render, signed
from mre_jax.report.scores import Scores, Variant
from mre_jax.reward.scores import PERSPECTIVES


@dataclasses.dataclass(frozen=True)
class Contrast:
    """One perspective at a time asked otherwise than the others.

    Attributes:
        system: editor that was asked.
        rest: the score that was asked for in the other two perspectives.
        alone: the score that was asked for in the one.
        variants: by the place of that one.
        reference: all three at `rest`, if that was measured.
    """

    system: str
    rest: float
    alone: float
    variants: tuple[Variant, ...]
    reference: Variant | None


def response_chart(scores: Scores, system: str) -> Markup | None:
    """The curve of one system, with the numbers below it; None for fewer than two rewards."""
    asked = _uniform(scores, system)
    if len(asked) < 2 or not scores.perspectives:
        return None
    series = [_curve(scores, asked, metric) for metric in scores.perspectives]
    chart = line_chart(
        series,
        title=f"{system}: achieved scores against asked ones",
        x_label="asked, in all three perspectives",
        y_label="achieved, mean and 95 % interval",
        identity=True,
    )
    rise = _rise(scores, asked)
    return render(
        "response.html", scores=scores, system=system, chart=chart, asked=asked, rise=rise
    )


def contrasts(scores: Scores, system: str) -> list[Contrast]:
    """All complete sets of one perspective alone, as 5,0,0 with 0,5,0 and 0,0,5."""
    found: dict[tuple[float, float], dict[int, Variant]] = collections.defaultdict(dict)
    for variant in scores.variants:
        asked = variant.asked
        if variant.system != system or asked is None:
            continue
        for place, value in enumerate(asked):
            others = {*asked[:place], *asked[place + 1 :]}
            if len(others) == 1 and value not in others:
                found[others.pop(), value][place] = variant
    uniform = _uniform(scores, system)
    return [
        Contrast(system, rest, alone, tuple(of[place] for place in sorted(of)), uniform.get(rest))
        for (rest, alone), of in found.items()
        if len(of) == len(scores.perspectives) == len(PERSPECTIVES)
    ]


def contrast_matrix(scores: Scores, contrast: Contrast) -> Markup:
    """What is achieved (columns) when one perspective (rows) is asked for."""
    values: list[list[float | None]] = []
    texts: list[list[str]] = []
    notes: list[list[str]] = []
    for variant in contrast.variants:
        cells = [_cell(scores, variant, contrast.reference, m) for m in scores.perspectives]
        values.append([value for value, _, _ in cells])
        texts.append([text for _, text, _ in cells])
        notes.append([note for _, _, note in cells])
    reach = max([0.5, *(abs(value) for row in values for value in row if value is not None)])
    limits = (-reach, 0.0, reach) if contrast.reference else (0.0, 2.5, 5.0)
    asked = f"{contrast.alone:g} in one perspective and {contrast.rest:g} in the other two"
    what = f"change from {contrast.reference.condition}" if contrast.reference else "achieved score"
    chart = heat_matrix(
        values,
        scores.perspectives,
        scores.perspectives,
        title=f"{contrast.system}: {what}, asked for {asked}",
        texts=texts,
        notes=notes,
        limits=limits,
        row_title=f"asked {contrast.alone:g} in",
        column_title=what,
    )
    caption = f" asked for {asked}; cells: {what}"
    return render("contrast.html", system=contrast.system, caption=caption, chart=chart)


def _uniform(scores: Scores, system: str) -> dict[float, Variant]:
    """The variants that were asked for one score in all perspectives, by that score."""
    found = {
        variant.asked[0]: variant
        for variant in scores.variants
        if variant.system == system and variant.asked and len(set(variant.asked)) == 1
    }
    return dict(sorted(found.items()))


def _curve(scores: Scores, asked: dict[float, Variant], metric: str) -> Series:
    points = []
    for reward, variant in asked.items():
        found = scores.summary(variant, metric)
        if found is not None and found.mean is not None:
            bounds = found.interval
            low, high = (bounds.low, bounds.high) if bounds else (found.mean, found.mean)
            points.append((reward, found.mean, low, high))
    columns: Sequence[Sequence[float]] = list(zip(*points, strict=True)) or [()] * 4
    return Series(metric, *columns)


def _rise(scores: Scores, asked: dict[float, Variant]) -> str:
    """From the lowest reward to the highest, in words."""
    lowest, *_, highest = asked.values()
    parts = []
    for metric in scores.perspectives:
        found = scores.difference(highest, lowest, metric)
        if found is not None:
            bounds = interval(found.interval, 2, plus=True)
            parts.append(f"{metric} {signed(found.mean)} {bounds}")
    return f" from {lowest.condition} to {highest.condition}: {', '.join(parts)}" if parts else ""


def _cell(
    scores: Scores, variant: Variant, reference: Variant | None, metric: str
) -> tuple[float | None, str, str]:
    """Value, text and note of one cell of the matrix."""
    if reference is not None:
        change = scores.difference(variant, reference, metric)
        if change is None:
            return None, NOTHING, ""
        return change.mean, signed(change.mean), interval(change.interval, 2, plus=True)
    found = scores.summary(variant, metric)
    if found is None or found.mean is None:
        return None, NOTHING, ""
    return found.mean, f"{found.mean:.2f}", f"{found.coverage.ok}/{found.coverage.total}"
