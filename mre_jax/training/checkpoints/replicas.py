"""Comparison of the copies of a state that devices and processes hold.

Copies are computed, not sent: each device applies the same update to its own. A device that
rounds one number differently, once, trains on with other parameters than the rest.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax

from mre_jax.errors import DataError
from mre_jax.training.checkpoints.fingerprint import LeafParts, measure


def compare_replicas(state: Any, step: int) -> None:
    """Checks that all devices that hold the same part of a leaf hold the same bits of it.

    Args:
        state: arrays; see `fingerprint.fingerprints`. All processes call this together.
        step: for the message.

    Raises:
        DataError: naming a leaf and the devices whose copy is not that of the majority; all of
            its devices, if there is none.
    """
    check_parts(measure(state), step)


def check_parts(leaves: Sequence[LeafParts], step: int) -> None:
    """`compare_replicas` of a state that is measured already."""
    found = {leaf.path: outliers for leaf in leaves if (outliers := _outliers(leaf))}
    if not found:
        return
    path, devices = next(iter(found.items()))
    more = f" (and {len(found) - 1} more leaves)" if len(found) > 1 else ""
    raise DataError(
        f"step {step}: the copies of {path}{more} differ; suspect {_listed(devices)}: look at "
        "that hardware, and resume from the last checkpoint"
    )


def _outliers(leaf: LeafParts) -> list[int]:
    """The devices whose copy of some part is not that of more than half of its devices."""
    copies: dict[Any, dict[int, int]] = {}
    for device, (index, value) in leaf.parts.items():
        copies.setdefault(index, {})[device] = value
    outliers = []
    for values in copies.values():
        usual, count = Counter(values.values()).most_common(1)[0]
        alone = 2 * count <= len(values)
        outliers += [device for device, value in values.items() if alone or value != usual]
    return sorted(outliers)


def _listed(devices: Sequence[int]) -> str:
    process = {device.id: device.process_index for device in jax.devices()}
    names = ", ".join(f"{device} (process {process[device]})" for device in devices)
    return f"device{'s' if len(devices) > 1 else ''} {names}"
