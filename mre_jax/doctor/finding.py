"""What a check has found: that all is well, or what is not and how it is mended."""

import dataclasses
from collections.abc import Iterable
from typing import Literal, TypeAlias

from mre_jax.errors import ConfigError, DataError, MreError

Level: TypeAlias = Literal["ok", "warning", "failure"]

RETRY, DATA, CONFIG = MreError.exit_code, DataError.exit_code, ConfigError.exit_code
_WORST = (CONFIG, DATA, RETRY)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        check: what was looked at, in a word or two.
        level: "ok", "warning" (a run may start) or "failure" (it would end, or do harm).
        says: what was found.
        remedy: what to do about it; "" if nothing.
        code: exit code of a failure, as of a run that ends by it: 65 data, 78 configuration, or
            70, what a later try may find mended. 0 otherwise.
    """

    check: str
    level: Level
    says: str
    remedy: str = ""
    code: int = 0


def ok(check: str, says: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", says)


def warning(check: str, says: str, remedy: str) -> Finding:
    """A run may start, and its owner should know."""
    return Finding(check, "warning", says, remedy)


def failure(check: str, says: str, remedy: str, code: int = CONFIG) -> Finding:
    """A run would end by this."""
    return Finding(check, "failure", says, remedy, code)


def refused(check: str, error: MreError) -> Finding:
    """A failure from the line that a run would end with: the offender, and behind ";" the remedy.

    Example:
        >>> refused("data", DataError("shards: no manifest.json; prepare the set again")).remedy
        'prepare the set again'
    """
    says, _, remedy = str(error).replace("\n", " ").partition("; ")
    return failure(check, says, remedy or "correct it in the configuration", error.exit_code)


def exit_code(findings: Iterable[Finding]) -> int:
    """That of the worst: what no retry mends comes first; 0 without a failure.

    Example:
        >>> exit_code([ok("clock", "right"), failure("chips", "busy", "stop 12", RETRY)])
        70
    """
    codes = {finding.code for finding in findings if finding.level == "failure"}
    return next((code for code in _WORST if code in codes), max(codes, default=0))
