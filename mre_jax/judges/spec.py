"""Who judges, how fast and for how much: all that a caller sets of a judge."""

import dataclasses
import inspect
import json
from collections.abc import Mapping

from mre_jax.errors import ConfigError
from mre_jax.judges.asking import ManyAtOnce
from mre_jax.judges.budget import Budget
from mre_jax.judges.judge import Judge, judge_class, make_judge
from mre_jax.judges.openai.judge import OpenAIJudge
from mre_jax.judges.verdict import FINAL

Option = str | int | float | bool | None | tuple[float, float]

_MODELS = ("openai", "openai-batch")
_NOT_OPTIONS = {"model", "path", "pace", "options"}


@dataclasses.dataclass(frozen=True)
class JudgeSpec:
    """A judge, the pace of its questions and the money they may cost.

    Example:
        >>> judge = JudgeSpec("toy").make()
        >>> judge.name
        'toy'
        >>> JudgeSpec("openai:gpt-4o", max_usd=50).budget()
        Budget(max_usd=50)

    Attributes:
        name: openai:MODEL, openai-batch:MODEL, toy, replay:JOURNAL or human:FILE.
        base_url: address of a compatible server; by default OPENAI_BASE_URL.
        options: settings of the judge, as temperature=0.2, temperature=null (not sent), form=auto,
            api=responses, max_tokens=500, key_name=AZURE_OPENAI_API_KEY; may be repeated.
        concurrency: questions under way at once.
        rpm: requests a minute, at most.
        tpm: tokens a minute, at most.
        again: status of answers to ask for again; may be repeated.
        max_usd: hard ceiling in US dollars for all runs of the journal together.
        price: US dollars for a million input and output tokens.
    """

    name: str = dataclasses.field(
        default="", metadata={"flag": "--judge", "metavar": "KIND[:NAME]"}
    )
    base_url: str | None = dataclasses.field(default=None, metadata={"metavar": "URL"})
    options: dict[str, Option] = dataclasses.field(
        default_factory=dict, metadata={"flag": "--judge-option"}
    )
    concurrency: int = 8
    rpm: float | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    tpm: float | None = dataclasses.field(default=None, metadata={"metavar": "N"})
    again: tuple[str, ...] = dataclasses.field(
        default=(), metadata={"choices": [status for status in FINAL if status != "ok"]}
    )
    max_usd: float | None = None
    price: tuple[float, ...] | None = dataclasses.field(
        default=None, metadata={"metavar": "IN,OUT"}
    )

    def make(self, defaults: Mapping[str, Option] | None = None, *, offline: bool = False) -> Judge:
        """The judge.

        Args:
            defaults: options of a model where the spec leaves them open, as `PromptPack.settings`;
                other judges take none.
            offline: for estimates: a model needs no key, and nothing is sent.

        Raises:
            ConfigError: if the name is empty or unknown, an option is not one of the judge's, or a
                ceiling is set and no price is known.
            DataError: if the judge's file cannot be read.
        """
        if not self.name:
            raise ConfigError("no --judge: give openai:MODEL, toy, replay:JOURNAL or human:FILE")
        options = {name: _value(value) for name, value in self.options.items()}
        if self.name.partition(":")[0] in _MODELS:
            options = {**(defaults or {}), **options, **self._of_model(), "offline": offline}
        elif self.base_url or self.price or self.rpm or self.tpm:
            raise ConfigError(f"judge {self.name}: takes no --base-url, --price, --rpm or --tpm")
        _check_options(self.name, options)
        judge = make_judge(self.name, **options)
        model = getattr(judge, "judge", judge)
        if self.max_usd is not None and isinstance(model, OpenAIJudge) and model.facts.usd is None:
            raise ConfigError(
                f"--max-usd: no price is known for {model.request.model}; give --price IN,OUT"
            )
        return judge

    def budget(self) -> Budget:
        """The ceiling.

        Raises:
            ConfigError: if it is negative.
        """
        return Budget(self.max_usd)

    def _of_model(self) -> dict[str, Option]:
        options: dict[str, Option] = {"base_url": self.base_url}
        if self.price is not None:
            if len(self.price) != 2:
                shown = ",".join(f"{number:g}" for number in self.price)
                raise ConfigError(f"--price {shown!r}: want two numbers, as 2.5,10")
            options["usd"] = (self.price[0], self.price[1])
        if self.rpm is not None:
            options["requests_per_minute"] = self.rpm
        if self.tpm is not None:
            options["tokens_per_minute"] = self.tpm
        return options


def _check_options(name: str, options: Mapping[str, Option]) -> None:
    made = judge_class(name)
    known = set(inspect.signature(made).parameters) | {"base_url", "offline"}
    if issubclass(made, ManyAtOnce):
        known |= set(inspect.signature(OpenAIJudge).parameters)
    for option in options:
        if option not in known - _NOT_OPTIONS:
            want = ", ".join(sorted(known - _NOT_OPTIONS - {"offline"}))
            raise ConfigError(f"judge {name}: no option {option!r}; it has {want or 'none'}")


def _value(value: Option) -> Option:
    """Of a text the number, true, false or null that it spells, which may be none or nothing."""
    if not isinstance(value, str):
        return value
    if value.strip().lower() in ("", "none", "null"):
        return None
    try:
        read = json.loads(value)
    except json.JSONDecodeError:
        return value
    return read if read is None or isinstance(read, bool | int | float) else value
