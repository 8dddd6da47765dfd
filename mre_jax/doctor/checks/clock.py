"""The clock, which signs requests to buckets and dates the events of a run."""

import datetime
import email.utils
from collections.abc import Iterator

from mre_jax.doctor.finding import RETRY, Finding, failure, ok, warning
from mre_jax.doctor.machine import ZONE_URL, Machine

EARLIEST = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
"""This code is younger."""

SKEW_SECONDS = 60.0
"""A bucket refuses what is signed by a clock that is minutes off."""

_REMEDY = "set it by network: sudo timedatectl set-ntp true"


def check_clock(machine: Machine) -> Iterator[Finding]:
    """Whether it can be right; and as the cloud's, where a server of its tells the time.

    Example:
        >>> [finding.level for finding in check_clock(Machine(now=lambda: 0.0))]
        ['failure']
    """
    now = machine.now()
    shown = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    if now < EARLIEST:
        yield failure("clock", f"it says {shown} UTC, before this code was written", _REMEDY, RETRY)
        return
    apart = _apart(machine)
    if apart is not None and abs(apart) > SKEW_SECONDS:
        yield warning("clock", f"{apart:+.0f} s from the cloud's", _REMEDY)
    else:
        yield ok("clock", f"{shown} UTC")


def _apart(machine: Machine) -> float | None:
    """Seconds before the cloud's clock; None where there is none to ask."""
    if not machine.tpu_chips():
        return None
    try:
        date = machine.get(ZONE_URL, {"Metadata-Flavor": "Google"}).date
        return machine.now() - email.utils.parsedate_to_datetime(date).timestamp()
    except (OSError, ValueError):
        return None
