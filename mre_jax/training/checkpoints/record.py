"""What a checkpoint says about itself: its leaves, their fingerprints, and whose it is.

The record lies beside the arrays and has a checksum of its own. What it says of shapes and types
can therefore be trusted: another shape in it means another model, not damage.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax

from mre_jax.errors import ConfigError, DataError
from mre_jax.training.checkpoints.fingerprint import leaf_path

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Record:
    """Everything of a checkpoint but its arrays.

    Attributes:
        step: number of optimizer steps that are in the state.
        meta: what the run saved along: JSON values, such as hashes of configuration and data.
        leaves: by the leaf's path, its type and shape as text: "float32[3,3,8,320]".
        fingerprints: by the leaf's path.
    """

    step: int
    meta: Mapping[str, Any]
    leaves: Mapping[str, str]
    fingerprints: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """A JSON object with the format's number and a checksum.

        Raises:
            TypeError, ValueError: if `meta` is not JSON (NaN is not).
        """
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        return {**content, "sha256": _checksum(content)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Record":
        """The inverse of `to_json`.

        Raises:
            DataError: if the record is damaged, or of a later format.
        """
        content = {key: value for key, value in record.items() if key != "sha256"}
        if record.get("sha256") != _checksum(content):
            raise DataError("its record does not have its saved checksum")
        if content.pop("format") != FORMAT:
            raise DataError("its record is of another version of this program")
        return cls(**content)


def leaf_types(state: Any) -> dict[str, str]:
    """Type and shape of each leaf of a state, or of its abstract form, by the leaf's path."""
    return {
        leaf_path(keys): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for keys, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    }


def check_fits(record: Record, state: Any, name: str) -> None:
    """Compares the leaves of a checkpoint with those that the program would continue from.

    Args:
        record: hashes that the checkpoint has.
        state: a state, or its abstract form.
        name: name of the checkpoint, for the message.

    Raises:
        ConfigError: naming a leaf that is missing, not expected, or of another type or shape.
    """
    expected = leaf_types(state)
    for path, leaf in sorted(expected.items()):
        if path not in record.leaves:
            raise ConfigError(f"{name} has no {path}; resume it with the configuration it is of")
        if record.leaves[path] != leaf:
            raise ConfigError(
                f"{name}: {path} is {record.leaves[path]}, but {leaf} in this configuration; "
                "resume it with the configuration it is of"
            )
    if unexpected := sorted(set(record.leaves) - set(expected)):
        raise ConfigError(
            f"{name} has {unexpected[0]}, which this configuration has not; "
            "resume it with the configuration it is of"
        )


def _checksum(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
