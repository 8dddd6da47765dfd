"""What the exit codes of a run's workers mean: the contract of `mre train --help`.

0                    done
2, 65, 78, 126, 127  usage, data, configuration, no such program: the same again would fail
75                   stopped by a signal, and saved: again, as often as it takes
134, 137, 143, 255   a machine or a peer is gone: again
anything else        a crash, as 70: again, a few times
"""

import enum
from collections.abc import Collection

FINAL = (78, 65, 2, 126, 127)
PREEMPTED = 75
INFRASTRUCTURE = (134, 137, 143, 255)
CRASH = 70


class Outcome(enum.Enum):
    """What comes after an attempt."""

    DONE = "done"
    FINAL = "do not retry"
    CRASHED = "crashed"
    PREEMPTED = "preempted, saved"
    INFRASTRUCTURE = "lost a machine"


def outcome(codes: Collection[int | None]) -> tuple[Outcome, int]:
    """What the exit codes of all workers amount to, and the code that says so.

    One worker's crash makes the others abort, so that the worst reason counts, not the last.

    Args:
        codes: of each worker; None for one that never told.

    Example:
        >>> outcome([134, 70, 134])
        (<Outcome.CRASHED: 'crashed'>, 70)
        >>> outcome([0, 0])
        (<Outcome.DONE: 'done'>, 0)
        >>> outcome([75, None])[0].value
        'preempted, saved'
    """
    told = {code for code in codes if code is not None}
    if told == {0} and None not in codes:
        return Outcome.DONE, 0
    for code in FINAL:
        if code in told:
            return Outcome.FINAL, code
    strange = sorted(told - {0, PREEMPTED, *INFRASTRUCTURE})
    if strange:
        return Outcome.CRASHED, CRASH if CRASH in strange else strange[0]
    if PREEMPTED in told:
        return Outcome.PREEMPTED, PREEMPTED
    return Outcome.INFRASTRUCTURE, max(told - {0}, default=255)
