"""Who judges, how fast and for how much: all that a caller sets of a judge."""

import dataclasses
import json
from collections.abc import Mapping

from mre_jax.errors import ConfigError
from mre_jax.judges.journal import Budget
from mre_jax.judges.judge import Judge, judge_class, make_judge
from mre_jax.judges.verdict import FINAL

Option = str | int | float | bool | None | tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class JudgeSpec:
    """A judge, the pace of its questions and the money they may cost.

    Example:
        >>> JudgeSpec("toy").make().name
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
        known = judge_class(self.name).options()
        server = self._of_server()
        if server.keys() - known:
            raise ConfigError(f"judge {self.name}: takes no --base-url, --price, --rpm or --tpm")
        given = {name: _value(value) for name, value in self.options.items()}
        for name in given.keys() - known:
            want = ", ".join(sorted(known - {"offline"})) or "none"
            raise ConfigError(f"judge {self.name}: no option {name!r}; it has {want}")
        options = {**(defaults or {}), **given, **server, "offline": offline}
        made = {name: value for name, value in options.items() if name in known}
        judge = make_judge(self.name, **made)
        if self.max_usd is not None and not judge.price_known:
            model = self.name.partition(":")[2]
            raise ConfigError(f"--max-usd: no price is known for {model}; give --price IN,OUT")
        return judge

    def budget(self) -> Budget:
        """The ceiling.

        Raises:
            ConfigError: if it is negative.
        """
        return Budget(self.max_usd)

    def after(self, spent: float) -> "JudgeSpec":
        """The same judge with what is left of the ceiling when other journals have spent some.

        Example:
            >>> JudgeSpec("openai:gpt-4o", max_usd=50).after(20).max_usd
            30
        """
        if self.max_usd is None:
            return self
        return dataclasses.replace(self, max_usd=max(self.max_usd - spent, 0))

    def _of_server(self) -> dict[str, Option]:
        """What is set of a model behind a server, by the name of its option."""
        if self.price is not None and len(self.price) != 2:
            shown = ",".join(f"{number:g}" for number in self.price)
            raise ConfigError(f"--price {shown!r}: want two numbers, as 2.5,10")
        options = {
            "base_url": self.base_url,
            "usd": self.price,
            "requests_per_minute": self.rpm,
            "tokens_per_minute": self.tpm,
        }
        return {name: value for name, value in options.items() if value is not None}


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
