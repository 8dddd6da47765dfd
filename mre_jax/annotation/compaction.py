"""From a journal to the public form of rewards, which `mre prepare --rewards` reads."""

import dataclasses
import os
from collections import Counter

from mre_jax.errors import DataError
from mre_jax.judges.journal import read_verdicts
from mre_jax.judges.settings import difference
from mre_jax.judges.verdict import Verdict
from mre_jax.reward.file import Reward
from mre_jax.reward.scores import PERSPECTIVES

MAY_CHANGE = ("base_url",)
"""What may change while a journal grows: a model's server may move to another port."""


@dataclasses.dataclass(frozen=True)
class Compaction:
    """What a journal holds for a set of rewards.

    Attributes:
        rewards: rewards by item, sorted; those with all three perspectives.
        incomplete: items with fewer.
        failed: their missing perspectives by why they are missing; "" is not asked yet.
        model: model that gave the scores.
    """

    rewards: dict[str, Reward]
    incomplete: int
    failed: Counter[str]
    model: str


def compact(journal: str | os.PathLike[str]) -> Compaction:
    """Brings the answers about one item together.

    Raises:
        DataError: if the journal is missing or damaged, holds answers of several models, prompts
            or settings, or none that makes a reward.
    """
    first: Verdict | None = None
    found: dict[str, dict[str, Verdict]] = {}
    prompts: dict[str, str] = {}
    models: dict[str, str] = {}
    for verdict in read_verdicts(journal):
        if verdict.repeat or verdict.perspective not in PERSPECTIVES:
            continue
        if verdict.status == "ok":
            models.setdefault(verdict.model, verdict.item)
            if verdict.settings:  # journals of before have none
                first = first or verdict
                _check_settings(first, verdict, str(journal))
            prompt = prompts.setdefault(verdict.perspective, verdict.prompt_hash)
            if prompt != verdict.prompt_hash:
                raise DataError(
                    f"{journal}: answers to two prompts for {verdict.perspective} "
                    f"({prompt[:12]}, {verdict.prompt_hash[:12]}); keep one journal a prompt pack"
                )
        # As an entry: a raw answer is not needed any more.
        verdict = dataclasses.replace(verdict, raw="")
        known = found.setdefault(verdict.item, {}).get(verdict.perspective)
        if known is None or known.status != "ok" or verdict.status == "ok":
            _check_same(known, verdict, str(journal))
            found[verdict.item][verdict.perspective] = verdict
    if len(models) > 1:
        raise DataError(
            f"{journal}: scores of several models ({', '.join(sorted(models))}) do not go "
            "together; keep one journal a model"
        )
    rewards, failed = {}, Counter[str]()
    for item, verdicts in sorted(found.items()):
        missing = [name for name in PERSPECTIVES if not _is_ok(verdicts.get(name))]
        if not missing:
            rewards[item] = _reward([verdicts[name] for name in PERSPECTIVES])
        failed.update(verdicts[name].status if name in verdicts else "" for name in missing)
    if not rewards:
        raise DataError(
            f"{journal}: no item with scores in {', '.join(PERSPECTIVES)} in it; finish it first"
        )
    return Compaction(rewards, len(found) - len(rewards), failed, next(iter(models)))


def _check_settings(first: Verdict, verdict: Verdict, journal: str) -> None:
    """Scores that were asked for in different ways do not go together."""
    found = difference(first.settings, verdict.settings, (*MAY_CHANGE, "model"))
    if found:
        raise DataError(
            f"{journal}: items {first.item!r} and {verdict.item!r} were judged with {found.field} "
            f"{found.one!r} and {found.other!r}; keep one journal a way to judge"
        )


def _check_same(known: Verdict | None, verdict: Verdict, journal: str) -> None:
    """The same item with other pictures or another instruction is another item."""
    both = known is not None and known.status == verdict.status == "ok"
    if known is not None and both and known.question != verdict.question:
        raise DataError(
            f"{journal}: item {verdict.item!r} was asked about with two instructions or pictures; "
            "keep one journal a set"
        )


def _is_ok(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.status == "ok"


def _reward(verdicts: list[Verdict]) -> Reward:
    scores = [0.0 if verdict.score is None else verdict.score for verdict in verdicts]
    following, preserving, quality = (int(s) if float(s).is_integer() else s for s in scores)
    texts = tuple(verdict.text for verdict in verdicts)
    return Reward((following, preserving, quality), (texts[0], texts[1], texts[2]))
