"""Which of the settings recorded with an answer decide its score, and where two sets differ."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

UNKNOWN = "not recorded"
"""What stands for a setting that is not there."""

OF_ITEM = ("sizes", "annotators")
"""What each item has of its own: width and height of the pictures that were sent for it, and the
score of each person of whose scores it is the mean."""

NOT_COMPARED = ("pack", "max_tokens_field", "human", "judged", "replay", *OF_ITEM)
"""Said and not compared: what a pack is called (its prompts' hashes are), a field that has one
meaning under two names, hashes of files that may have grown (whose scores they are is said
elsewhere), whose edits people's scores are sought for, and what differs from item to item."""


class Difference(NamedTuple):
    """A setting, and what it is on either side."""

    field: str
    one: Any
    other: Any


def difference(
    one: Mapping[str, Any], other: Mapping[str, Any], but: Collection[str] = ()
) -> Difference | None:
    """The first setting in which two sets differ; None if they do not.

    Example:
        >>> difference({"temperature": 0.0, "pack": "a"}, {"temperature": 1.0, "pack": "b"})
        Difference(field='temperature', one=0.0, other=1.0)

    Args:
        but: settings that may differ, besides `NOT_COMPARED`.
    """
    for field in dict.fromkeys([*one, *other]):
        values = one.get(field, UNKNOWN), other.get(field, UNKNOWN)
        if field not in NOT_COMPARED and field not in but and values[0] != values[1]:
            return Difference(field, *values)
    return None
