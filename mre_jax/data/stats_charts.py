"""Charts of a set: the scores of each perspective, and the words of its reward texts."""

import math
from collections.abc import Iterator, Mapping, Sequence

from etils import epath
from PIL import Image, ImageDraw, ImageFont

from mre_jax.io.image import write_png
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES
from mre_jax.reward.stats import RewardStats

_PANEL = (420, 300)
_MARGIN = 40
_COLOURS = ("#31688e", "#35b779", "#b5651d")
_WORDS = 60
_SIZES = (11, 54)


def write_charts(folder: epath.PathLike, stats: RewardStats) -> Sequence[epath.Path]:
    """Writes `scores.png` and `words.png` as in Figs. 3 and 4; returns their paths."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("scores.png", "words.png")]
    write_png(draw_scores(stats), paths[0])
    write_png(draw_words(stats.words), paths[1])
    return paths


def draw_scores(stats: RewardStats) -> Image.Image:
    """A histogram per perspective, side by side, as shares of the judged examples."""
    panels = []
    for name, colour in zip(PERSPECTIVES, _COLOURS, strict=True):
        shares = [count / max(stats.judged, 1) for count in stats.scores[name]]
        below = stats.below_top[name] / max(stats.judged, 1)
        panels.append(_histogram(f"{name}: {below:.1%} below {MAX_SCORE}", shares, colour))
    return _beside(panels)


def draw_words(words: Mapping[str, Mapping[str, int]]) -> Image.Image:
    """A word cloud per perspective, side by side; the area of a word grows with its count."""
    panels = [
        _cloud(name, words[name], colour)
        for name, colour in zip(PERSPECTIVES, _COLOURS, strict=True)
    ]
    return _beside(panels)


def _panel(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", _PANEL, "white")
    draw = ImageDraw.Draw(image)
    draw.text((_PANEL[0] / 2, 8), title, "black", ImageFont.load_default(16), anchor="ma")
    return image, draw


def _beside(panels: Sequence[Image.Image]) -> Image.Image:
    image = Image.new("RGB", (_PANEL[0] * len(panels), _PANEL[1]), "white")
    for number, panel in enumerate(panels):
        image.paste(panel, (_PANEL[0] * number, 0))
    return image


def _histogram(title: str, shares: Sequence[float], colour: str) -> Image.Image:
    image, draw = _panel(title)
    font = ImageFont.load_default(13)
    bottom, height = _PANEL[1] - _MARGIN, _PANEL[1] - 2.5 * _MARGIN
    step = (_PANEL[0] - 2 * _MARGIN) / len(shares)
    for score, share in enumerate(shares):
        left = _MARGIN + step * score
        top = bottom - height * share / max(*shares, 1e-9)
        middle = left + step / 2
        draw.rectangle((left + step * 0.1, top, left + step * 0.9, bottom), fill=colour)
        draw.text((middle, top - 3), f"{share:.1%}", "black", font, anchor="mb")
        draw.text((middle, bottom + 6), str(score), "black", font, anchor="ma")
    draw.line((_MARGIN, bottom, _PANEL[0] - _MARGIN, bottom), "black")
    return image


def _cloud(title: str, words: Mapping[str, int], colour: str) -> Image.Image:
    image, draw = _panel(title)
    ranked = sorted(words.items(), key=lambda item: (-item[1], item[0]))[:_WORDS]
    taken = [(0.0, 0.0, float(_PANEL[0]), 34.0)]  # the title's
    for word, count in ranked:
        low, high = _SIZES
        font = ImageFont.load_default(low + (high - low) * math.sqrt(count / ranked[0][1]))
        box = draw.textbbox((0, 0), word, font)
        for x, y in _spiral():
            place = (x - box[2] / 2, y - box[3] / 2, x + box[2] / 2, y + box[3] / 2)
            inside = min(place) >= 2 and place[2] <= _PANEL[0] - 2 and place[3] <= _PANEL[1] - 2
            if inside and not any(_overlap(place, other) for other in taken):
                draw.text(place[:2], word, colour, font)
                taken.append(place)
                break
    return image


def _spiral() -> Iterator[tuple[float, float]]:
    """Points from the middle of a panel outwards."""
    for step in range(1500):
        angle, radius = step * 0.35, step * 0.17
        yield (
            _PANEL[0] / 2 + 1.4 * radius * math.cos(angle),
            _PANEL[1] / 2 + radius * math.sin(angle),
        )


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
