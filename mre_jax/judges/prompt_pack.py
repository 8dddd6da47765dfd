"""Prompt packs: what a judge is asked in each perspective, kept as TOML files beside this module.

    description = "whose wording this is"

    [following]
    pictures = ["original", "edited"]        # what the judge sees, in this order
    system = "..."
    user = "... {instruction} ..."
    [following.answer]                       # see `Answer`
    scores = ["score"]
    integer = true
    low = 0
    high = 5
    text = "bad"

A line break after an opening triple quote does not count (TOML). The hash of a prompt covers all of
this but the description, and stands beside every score that came of it.
"""

import dataclasses
import functools
import hashlib
import importlib.resources
import json
import tomllib
from collections.abc import Mapping
from typing import Any

from etils import epath

from mre_jax.errors import ConfigError, DataError

PACKS = (
    "paper-annotation",
    "paper-evaluation",
    "released-evaluation",
    "viescore",
    "imgedit",
    "imgedit-uge",
    "editscore",
)
_PICTURES = (["original", "edited"], ["edited"])
_PLACE = "{instruction}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """The form of an answer: an object with exactly these keys.

    Attributes:
        scores: keys of the numbers.
        integer: whether the numbers are whole.
        low, high: their range, both ends included.
        passed: key of a "yes" or "no"; None without one.
        text: key of what the judge says; None without one.
        combine: "min" or "mean", what makes one score of several numbers.
    """

    scores: tuple[str, ...]
    integer: bool
    low: float
    high: float
    passed: str | None = None
    text: str | None = None
    combine: str = "min"

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, in the order they are asked for."""
        return (
            *((self.passed,) if self.passed else ()),
            *self.scores,
            *((self.text,) if self.text else ()),
        )


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What is asked in one perspective.

    Attributes:
        system: the system message; "" for none.
        user: the user message; "{instruction}" stands for the instruction.
        pictures: those that are shown, in order: original and edited, or edited alone.
        answer: the form of the answer.
    """

    system: str
    user: str
    pictures: tuple[str, ...]
    answer: Answer

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of everything above, in hexadecimal."""
        values = json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(values.encode()).hexdigest()

    def message(self, instruction: str) -> str:
        """The user message for an instruction, whatever characters that holds."""
        return self.user.replace(_PLACE, instruction)


@dataclasses.dataclass(frozen=True)
class PromptPack:
    """Prompts that belong together.

    Attributes:
        name: of the pack, or the path of its file.
        description: whose wording it is.
        prompts: by perspective.
    """

    name: str
    description: str
    prompts: Mapping[str, Prompt]

    @property
    def perspectives(self) -> tuple[str, ...]:
        return tuple(self.prompts)

    def hash(self, perspective: str) -> str:
        """The hash of the prompt of a perspective."""
        return self.prompt(perspective).hash

    def prompt(self, perspective: str) -> Prompt:
        """The prompt of one perspective.

        Raises:
            ConfigError: if the pack has none.
        """
        try:
            return self.prompts[perspective]
        except KeyError:
            raise ConfigError(
                f"prompt pack {self.name}: no perspective {perspective!r}; it has "
                f"{', '.join(self.prompts)}"
            ) from None


def load_pack(name: str) -> PromptPack:
    """Reads one of `PACKS`, or a TOML file of the same form.

    Raises:
        ConfigError: if there is no such pack or file.
        DataError: naming the part of the file that is of another form.
    """
    if name in PACKS:
        folder = importlib.resources.files("mre_jax.judges") / "prompts"
        data = (folder / f"{name}.toml").read_bytes()
    elif name.endswith(".toml"):
        try:
            data = epath.Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(f"prompt pack {name}: {error.strerror}") from None
    else:
        raise ConfigError(f"prompt pack {name!r}: want {', '.join(PACKS)}, or a .toml file")
    try:
        entries = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"prompt pack {name}: not TOML ({error})") from None
    description = entries.pop("description", "")
    if not entries:
        raise DataError(f"prompt pack {name}: no perspective in it")
    prompts = {key: _prompt(entry, f"prompt pack {name}: {key}") for key, entry in entries.items()}
    return PromptPack(name, str(description), prompts)


def _prompt(entry: Any, where: str) -> Prompt:
    _check_keys(entry, {"system", "user", "pictures", "answer"}, set(), where)
    if not isinstance(entry["system"], str) or not isinstance(entry["user"], str):
        raise DataError(f"{where}: system and user must be texts")
    if entry["pictures"] not in _PICTURES:
        raise DataError(f'{where}: pictures must be ["original", "edited"] or ["edited"]')
    answer = _answer(entry["answer"], f"{where}: answer")
    return Prompt(entry["system"], entry["user"], tuple(entry["pictures"]), answer)


def _answer(entry: Any, where: str) -> Answer:
    _check_keys(entry, {"scores", "integer", "low", "high"}, {"passed", "text", "combine"}, where)
    scores, integer = entry["scores"], entry["integer"]
    if not isinstance(scores, list) or not scores or not all(isinstance(s, str) for s in scores):
        raise DataError(f"{where}: scores must be a list of keys")
    if not isinstance(integer, bool):
        raise DataError(f"{where}: integer must be true or false")
    low, high = entry["low"], entry["high"]
    if type(low) not in (int, float) or type(high) not in (int, float) or not low < high:
        raise DataError(f"{where}: low and high must be numbers, low the smaller one")
    combine = entry.get("combine", "min")
    if combine not in ("min", "mean"):
        raise DataError(f"{where}: combine must be 'min' or 'mean'")
    passed, text = entry.get("passed"), entry.get("text")
    if not isinstance(passed, str | None) or not isinstance(text, str | None):
        raise DataError(f"{where}: passed and text must be keys")
    answer = Answer(tuple(scores), integer, low, high, passed, text, combine)
    if len(set(answer.keys)) < len(answer.keys):
        raise DataError(f"{where}: a key stands in it twice")
    return answer


def _check_keys(entry: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: want a table")
    if missing := sorted(required - entry.keys()):
        raise DataError(f"{where}: no {missing[0]!r} in it")
    if unknown := sorted(entry.keys() - required - optional):
        raise DataError(f"{where}: unknown {unknown[0]!r}")
