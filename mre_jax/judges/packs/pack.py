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

    [following.types.Remove]                 # optional: for one type of instruction, what differs
    user = "..."

A prompt that has two edits of a picture compared shows ["original", "first", "second"], and its
answer is a choice; without a third text it is forced:

    [overall.answer]
    scores = ["better"]
    choices = ["first", "second"]            # and a third for neither, if that may be said

A line break after an opening triple quote does not count (TOML). The hash of a prompt covers all of
this but the description, and stands beside every score that came of it. Packs whose wording is
ours end in "-ours"; those of a benchmark's authors are read from their files, see `official_pack`.
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
    "paired-quality-ours",
    "viescore-ours",
    "imgedit-ours",
    "imgedit-uge-ours",
    "editscore-ours",
    "ins-align-ours",
    "genarena-ours",
    "gedit-v2-ours",
)
OURS = "-ours"
"""How the name of a pack ends whose wording is ours: published numbers are of other prompts."""

OFFICIAL = "official:"
"""Before the path of the authors' own files, instead of a pack's name."""

_RENAMED = {
    "released-evaluation": "paper-evaluation",
    **{name: f"{name}-ours" for name in ("viescore", "imgedit", "imgedit-uge", "editscore")},
}
_PICTURES = (["original", "edited"], ["edited"])
_PAIRS = (["original", "first", "second"], ["first", "second"])
_PLACE = "{instruction}"


@dataclasses.dataclass(frozen=True)
class Answer:
    """The form of an answer: an object with these keys, or lines.

    Attributes:
        scores: keys of the numbers.
        integer: whether the numbers are whole.
        low, high: their range, both ends included.
        passed: key of a "yes" or "no"; None without one.
        text: key of what the judge says; None without one.
        combine: "min" or "mean", what makes one score of several numbers.
        form: "object"; or "lines", each a key, a colon and its value, all lines that end in a
            number where `scores` is empty.
        length: length of the list that is the value of the one key in `scores`; 0 for numbers by
            themselves.
        choices: texts that the one key in `scores` may have: which of two edits is better, the
            one shown first (score 1) or second (0), and, if it may be said, neither (0.5); () for
            numbers.
    """

    scores: tuple[str, ...]
    integer: bool
    low: float
    high: float
    passed: str | None = None
    text: str | None = None
    combine: str = "min"
    form: str = "object"
    length: int = 0
    choices: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys, in the order they are asked for."""
        return (
            *((self.passed,) if self.passed else ()),
            *self.scores,
            *((self.text,) if self.text else ()),
        )


_LATER: dict[str, Any] = {"form": "object", "length": 0, "choices": ()}
CHOSEN = (1.0, 0.0, 0.5)
"""The score of each of `Answer.choices`: what the edit that is shown first gets."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """What is asked in one perspective.

    Attributes:
        system: the system message; "" for none.
        user: the user message; "{instruction}" stands for the instruction.
        pictures: pictures that are shown, in order: original and edited, or edited alone; of a pair
            first and second, with the original before them or without.
        answer: the form of the answer.
    """

    system: str
    user: str
    pictures: tuple[str, ...]
    answer: Answer

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of everything above, in hexadecimal."""
        values = dataclasses.asdict(self)
        for name, default in _LATER.items():  # equal prompts keep the hash of older versions
            if values["answer"][name] == default:
                del values["answer"][name]
        text = json.dumps(values, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def message(self, instruction: str) -> str:
        """The user message for an instruction, whatever characters that holds."""
        return self.user.replace(_PLACE, instruction)


@dataclasses.dataclass(frozen=True)
class PromptPack:
    """Prompts that belong together.

    Attributes:
        name: name of the pack, or path of its file.
        description: whose wording it is.
        prompts: prompts by perspective.
        types: prompts by perspective and type of instruction, where types have their own.
        settings: options of a model judge as the prompts' authors set them, where the user does
            not.
    """

    name: str
    description: str
    prompts: Mapping[str, Prompt]
    types: Mapping[str, Mapping[str, Prompt]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def perspectives(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.prompts, *self.types]))

    @property
    def pairwise(self) -> bool:
        """Whether its prompts have two edits compared, and not one scored."""
        by_type = [prompt for types in self.types.values() for prompt in types.values()]
        return all(prompt.answer.choices for prompt in [*self.prompts.values(), *by_type])

    def prompt(self, perspective: str, kind: str = "") -> Prompt:
        """The prompt of one perspective.

        Args:
            kind: type of the instruction; types without a prompt of their own share one.

        Raises:
            ConfigError: if the pack has none.
        """
        types = self.types.get(perspective, {})
        prompt = types.get(kind) or self.prompts.get(perspective)
        if prompt is not None:
            return prompt
        if types:
            raise ConfigError(
                f"prompt pack {self.name}: {perspective}: no prompt for instructions of type "
                f"{kind!r}; it has {', '.join(types)}"
            )
        raise ConfigError(
            f"prompt pack {self.name}: no perspective {perspective!r}; it has "
            f"{', '.join(self.perspectives)}"
        )

    def hash(self, perspective: str) -> str:
        """The hash of a perspective's prompt, or of all its prompts by type."""
        types = self.types.get(perspective)
        if not types:
            return self.prompt(perspective).hash
        prompts = {**types, "": self.prompts[perspective]} if perspective in self.prompts else types
        text = json.dumps({kind: prompt.hash for kind, prompt in prompts.items()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def packs_of(hash_: str) -> list[str]:
    """The names of those among `PACKS` that have a prompt of this hash."""
    packs = map(load_pack, PACKS)
    return [pack.name for pack in packs if hash_ in map(pack.hash, pack.perspectives)]


def load_pack(name: str) -> PromptPack:
    """Reads one of `PACKS`, a TOML file of the same form, or "official:" and a path.

    Example:
        >>> pack = load_pack("paper-annotation")
        >>> pack.perspectives
        ('following', 'preserving', 'quality')
        >>> pack.prompt("quality").answer.keys
        ('score', 'bad')

    Raises:
        ConfigError: if there is no such pack or file.
        DataError: naming the part of the file that is of another form.
    """
    if name.startswith(OFFICIAL):
        from mre_jax.judges.packs.official import read_official

        return read_official(name.removeprefix(OFFICIAL))
    if name in _RENAMED:
        raise ConfigError(f"prompt pack {name}: it is called {_RENAMED[name]} now")
    if name in PACKS:
        folder = importlib.resources.files("mre_jax.judges.packs") / "prompts"
        data = (folder / f"{name}.toml").read_bytes()
    elif name.endswith(".toml"):
        try:
            data = epath.Path(name).read_bytes()
        except OSError as error:
            raise ConfigError(f"prompt pack {name}: {error.strerror}") from None
    else:
        want = f"{', '.join(PACKS)}, {OFFICIAL}PATH, or a .toml file"
        raise ConfigError(f"prompt pack {name!r}: want {want}")
    try:
        entries = tomllib.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"prompt pack {name}: not TOML ({error})") from None
    description = entries.pop("description", "")
    if not entries:
        raise DataError(f"prompt pack {name}: no perspective in it")
    prompts: dict[str, Prompt] = {}
    types: dict[str, dict[str, Prompt]] = {}
    for perspective, entry in entries.items():
        where = f"prompt pack {name}: {perspective}"
        own, typed = _split(entry, where)
        if typed:
            types[perspective] = {
                kind: _prompt(own | differs, f"{where}: types: {kind}")
                for kind, differs in typed.items()
            }
        if not typed or "user" in own:
            prompts[perspective] = _prompt(own, where)
    _check_alike(prompts, types, f"prompt pack {name}")
    return PromptPack(name, str(description), prompts, types)


def _check_alike(
    prompts: Mapping[str, Prompt], types: Mapping[str, Mapping[str, Prompt]], where: str
) -> None:
    """Refuses a pack that has some edits scored and others compared."""
    found = [*prompts.values(), *(one for of in types.values() for one in of.values())]
    if len({bool(prompt.answer.choices) for prompt in found}) > 1:
        raise DataError(f"{where}: some prompts have choices and some numbers; make two packs")


def _split(entry: Any, where: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What stands for all types, and what differs by type."""
    if not isinstance(entry, dict):
        raise DataError(f"{where}: want a table")
    own = {name: value for name, value in entry.items() if name != "types"}
    types = entry.get("types", {})
    if not isinstance(types, dict) or not all(isinstance(t, dict) for t in types.values()):
        raise DataError(f"{where}: types: want a table a type")
    return own, types


def _prompt(entry: Any, where: str) -> Prompt:
    _check_keys(entry, {"system", "user", "pictures", "answer"}, set(), where)
    if not isinstance(entry["system"], str) or not isinstance(entry["user"], str):
        raise DataError(f"{where}: system and user must be texts")
    answer = _answer(entry["answer"], f"{where}: answer")
    known = _PAIRS if answer.choices else _PICTURES
    if entry["pictures"] not in known:
        raise DataError(f"{where}: pictures must be {' or '.join(map(json.dumps, known))}")
    return Prompt(entry["system"], entry["user"], tuple(entry["pictures"]), answer)


def _answer(entry: Any, where: str) -> Answer:
    optional = {"passed", "text", "combine", *_LATER}
    choices = _choices(entry, where)
    if choices:
        entry = {"integer": False, "low": 0, "high": 1, **entry}
    _check_keys(entry, {"scores", "integer", "low", "high"}, optional, where)
    scores, integer = entry["scores"], entry["integer"]
    form, length = (entry.get(name, _LATER[name]) for name in ("form", "length"))
    if form not in ("object", "lines"):
        raise DataError(f"{where}: form must be 'object' or 'lines'")
    named = isinstance(scores, list) and all(isinstance(score, str) for score in scores)
    if not named or not (scores or form == "lines"):
        raise DataError(f"{where}: scores must be a list of keys")
    if type(length) is not int or length < 0 or (length and (len(scores), form) != (1, "object")):
        raise DataError(f"{where}: length must be that of the list of one key of an object")
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
    if choices and (len(scores) != 1 or length or passed or (integer, low, high) != (False, 0, 1)):
        raise DataError(f"{where}: of a choice want one key in scores and no range, list or passed")
    answer = Answer(tuple(scores), integer, low, high, passed, text, combine, form, length, choices)
    if len(set(answer.keys)) < len(answer.keys):
        raise DataError(f"{where}: a key stands in it twice")
    return answer


def _choices(entry: Any, where: str) -> tuple[str, ...]:
    choices = entry.get("choices", []) if isinstance(entry, dict) else []
    if not isinstance(choices, list) or not all(isinstance(one, str) and one for one in choices):
        raise DataError(f"{where}: choices must be a list of texts")
    if choices and not 2 <= len({one.casefold() for one in choices}) == len(choices) <= 3:
        raise DataError(f"{where}: choices must be two or three texts that differ")
    return tuple(choices)


def _check_keys(entry: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: want a table")
    if missing := sorted(required - entry.keys()):
        raise DataError(f"{where}: no {missing[0]!r} in it")
    if unknown := sorted(entry.keys() - required - optional):
        raise DataError(f"{where}: unknown {unknown[0]!r}")
