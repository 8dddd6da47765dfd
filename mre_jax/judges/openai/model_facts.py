"""What is known of the models behind a server: prices, what they refuse, when they retire."""

import dataclasses
import datetime
import functools
import importlib.resources
import math
import re
import tomllib
from typing import Any

from mre_jax.errors import ConfigError

_REASONING = re.compile(r"(?:openai/)?(?:o[1-9]|gpt-(?:[5-9]|[1-9]\d))(?![\da-z])", re.I)
_THINKS = re.compile(r"think|reason|\bq[wv]q\b|\br1\b|magistral|gpt-oss", re.I)
_SNAPSHOT = re.compile(r"-\d{4}-\d\d-\d\d")
_LARGEST, _SHORT_SIDE, _TILE = 2048, 768, 512
_PATCH, _MOST_PATCHES = 32, 1536
_TEXT_BYTES = 4  # of English text, about, in a token


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What is known of a model.

    Attributes:
        name: name that was asked for.
        usd: per million input and output tokens; None if no price is known.
        priced: date of the price, or "yours".
        reasoning: whether it refuses a temperature and thinks in output tokens.
        thinks: whether it reasons in output tokens, as far as its name shows.
        tiles: tokens of a picture: a base and those of a tile of 512 pixels; None if it is not
            counted so.
        patches: tokens of a patch of 32 pixels; None likewise.
        retires: the announced shutdown, if one is known.
    """

    name: str
    usd: tuple[float, float] | None = None
    priced: str = ""
    reasoning: bool = False
    thinks: bool = False
    tiles: tuple[int, int] | None = None
    patches: float | None = None
    retires: datetime.date | None = None

    def picture_tokens(self, width: int, height: int, detail: str | None = None) -> int:
        """Tokens of a picture of so many pixels; if unknown, the larger count.

        At detail "low" a model that counts tiles takes the base alone (OpenAI's guide); of others
        it is not known, and they are taken to count as at full detail.
        """
        if detail == "low" and self.tiles is not None:
            return self.tiles[0]
        counts = []
        if self.tiles is not None or self.patches is None:
            base, each = self.tiles or (85, 170)
            counts.append(base + each * _tiles(width, height))
        if self.patches is not None or self.tiles is None:
            patches = math.ceil(width / _PATCH) * math.ceil(height / _PATCH)
            counts.append(math.ceil((self.patches or 1.0) * min(patches, _MOST_PATCHES)))
        return max(counts)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars; 0 if no price is known."""
        if self.usd is None:
            return 0.0
        return (prompt_tokens * self.usd[0] + completion_tokens * self.usd[1]) / 1e6

    def warning(self, today: datetime.date) -> str | None:
        """What is to be said about its retirement, or nothing."""
        if self.retires is None:
            return None
        when = f"shut down on {self.retires} (as of {_table()['retirements_of']})"
        if self.retires <= today:
            return f"{self.name} was announced to {when}; take another model"
        return f"{self.name} is announced to {when}"


def model_facts(name: str, usd: tuple[float, float] | None = None) -> ModelFacts:
    """What is known of a model; of an unknown one, its name alone.

    Args:
        name: name that the server knows.
        usd: a price that replaces the known one.

    Raises:
        ConfigError: for a negative price.
    """
    if usd is not None and not all(price >= 0 for price in usd):
        raise ConfigError(f"price {usd}: want two numbers of 0 or more")
    table = _table()
    fitting = [
        known
        for known in table["models"]
        if name == known or (name.startswith(known) and _SNAPSHOT.fullmatch(name[len(known) :]))
    ]
    entry = table["models"][max(fitting, key=len)] if fitting else {}
    known_usd = entry.get("usd")
    reasoning = entry.get("reasoning", not entry and bool(_REASONING.match(name)))
    return ModelFacts(
        name=name,
        usd=usd if usd is not None else (tuple(known_usd) if known_usd else None),
        priced="yours" if usd is not None else str(entry.get("priced", "")),
        reasoning=reasoning,
        thinks=reasoning or (not entry and bool(_THINKS.search(name))),
        tiles=tuple(entry["tiles"]) if "tiles" in entry else None,
        patches=entry.get("patches"),
        retires=entry.get("retires"),
    )


def text_tokens(text: str) -> int:
    """About as many tokens as an English text has."""
    return math.ceil(len(text.encode()) / _TEXT_BYTES)


def most_text_tokens(text: str) -> int:
    """As many tokens as a text can have: a token is at least a byte."""
    return len(text.encode())


def _tiles(width: int, height: int) -> int:
    scale = min(1.0, _LARGEST / max(width, height))
    scale *= min(1.0, _SHORT_SIDE / (min(width, height) * scale))
    return math.ceil(width * scale / _TILE) * math.ceil(height * scale / _TILE)


@functools.cache
def _table() -> dict[str, Any]:
    data = (importlib.resources.files("mre_jax.judges.openai") / "models.toml").read_bytes()
    return tomllib.loads(data.decode())
