"""Charts of a set: the scores of each perspective, and the words of its reward texts."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from etils import epath

from mre_jax.io.extra import of_extra
from mre_jax.io.files import open_atomically
from mre_jax.reward.scores import MAX_SCORE, PERSPECTIVES
from mre_jax.reward.stats import RewardStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#31688e", "#35b779", "#b5651d")
_PANEL = (4.2, 3.0)
_DPI = 100
_WORDS = 60


def write_charts(folder: epath.PathLike, stats: RewardStats) -> list[epath.Path]:
    """Writes `scores.png` and `words.png` as in Figs. 3 and 4; returns their paths.

    Raises:
        ConfigError: if the extra `report` is not installed.
    """
    for module in ("matplotlib.figure", "wordcloud"):
        of_extra(module, "report")  # both, before either is drawn
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    scores, words = folder / "scores.png", folder / "words.png"
    _draw(scores, lambda axes, name, colour: _histogram(axes, stats, name, colour))
    _draw(words, lambda axes, name, colour: _cloud(axes, stats.words[name], name, colour))
    return [scores, words]


def _draw(path: epath.Path, draw: Callable[["Axes", str, str], None]) -> None:
    """One panel for each perspective, side by side."""
    figure = of_extra("matplotlib.figure", "report").Figure(
        (_PANEL[0] * len(PERSPECTIVES), _PANEL[1]), dpi=_DPI, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.1)  # inches
    for place, name in enumerate(PERSPECTIVES):
        axes = figure.add_subplot(1, len(PERSPECTIVES), place + 1)
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.set_yticks([])
        draw(axes, name, _COLOURS[place % len(_COLOURS)])
    with open_atomically(path) as file:
        figure.savefig(file, format="png")


def _histogram(axes: "Axes", stats: RewardStats, name: str, colour: str) -> None:
    """Shares of the judged examples, by score."""
    judged = max(stats.judged, 1)
    bars = axes.bar(range(MAX_SCORE + 1), [n / judged for n in stats.scores[name]], color=colour)
    axes.bar_label(bars, fmt="{:.1%}")
    axes.margins(y=0.12)  # for the labels
    axes.set_title(f"{name}: {stats.below_top[name] / judged:.1%} below {MAX_SCORE}")


def _cloud(axes: "Axes", words: Mapping[str, int], name: str, colour: str) -> None:
    """The most frequent words; the larger, the more often."""
    axes.set_title(name)
    axes.axis("off")
    if not words:
        return
    cloud = of_extra("wordcloud", "report").WordCloud(
        font_path=of_extra("matplotlib.font_manager", "report").findfont("DejaVu Sans"),
        width=800,
        height=520,
        max_words=_WORDS,
        min_font_size=16,
        max_font_size=110,
        background_color="white",
        color_func=lambda *_, **__: colour,
        prefer_horizontal=1,
        random_state=0,  # the same picture every time
    )
    axes.imshow(cloud.generate_from_frequencies(dict(words)), interpolation="bilinear")
